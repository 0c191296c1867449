"""Several runs on one page: their figures side by side, what differs, and why they may not be comparable."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from abliterate.evals.scores import Outcomes
from abliterate.evals.statistics import Rate
from abliterate.reports.cautions import cautions, judge_name
from abliterate.reports.formats import model_name, portable_settings, read_template, template
from abliterate.reports.html import content_policy
from abliterate.reports.record import RunRecord, Scores
from abliterate.reports.verdict import verdict

__all__ = ["incomparable", "render_comparison"]


@dataclass(frozen=True)
class Bar:
    """One share with its interval, in per cent, as the page draws it; the figures themselves stand beside it."""

    run: str
    before: Rate | None
    after: Rate


def render_comparison(runs: Mapping[str, RunRecord]) -> str:
    """Runs by name as one self-contained HTML page; the same records in the same order give the same bytes.

    Raises:
        ValueError: fewer than two runs, which is a bug in the caller.
    """
    if len(runs) < 2:
        raise ValueError("a comparison needs two runs")
    return template("compare.html.j2").render(
        runs=runs,
        names={name: model_name(record) for name, record in runs.items()},
        style=Markup(read_template("report.css")),
        policy=Markup(content_policy()),
        groups=_groups(runs),
        drifts=[(name, s.drift) for name, s in _shown(runs) if s.drift is not None],
        incomparable=incomparable(runs),
        differences=_differences(runs),
        verdicts={name: verdict(record)[0] for name, record in runs.items()},
        cautions={name: cautions(record) for name, record in runs.items()},
    )


def incomparable(runs: Mapping[str, RunRecord]) -> list[str]:
    """Why the runs' figures may not be set beside each other, in plain sentences."""
    checks: list[tuple[str, Callable[[RunRecord], object]]] = [
        ("The runs report on different prompts: their rates differ for that alone.", lambda r: r.prompts.hash),
        ("The runs were judged by different judges.", judge_name),
        ("The completions were cut at different lengths.", lambda r: _evaluation(r).get("max_new_tokens")),
        ("The models are different.", lambda r: (model_name(r), r.model.revision, r.model.config_hash)),
        ("The chat templates or system prompts are different.", lambda r: r.model.template_hash),
        ("The runs were made by different versions of abliterate.", lambda r: r.tool_version),
    ]
    return [sentence for sentence, of in checks if len({str(of(record)) for record in runs.values()}) > 1]


def _evaluation(record: RunRecord) -> Mapping[str, Any]:
    found: Mapping[str, Any] = record.settings.get("evaluation", {})
    return found


def _shown(runs: Mapping[str, RunRecord]) -> Iterator[tuple[str, Scores]]:
    """The edited model's scores of each run, or the unedited one's where there is no edit."""
    for name, record in runs.items():
        scores = record.of("edited") or record.of("unedited")
        if scores is not None:
            yield name, scores


def _groups(runs: Mapping[str, RunRecord]) -> list[tuple[str, list[Bar]]]:
    """A title and a bar for each run that measured it."""
    wanted = (
        ("refuses what it was expected to refuse", "refused", "refused"),
        ("complies with it", "refused", "complied"),
        ("refuses what it was expected to answer", "answered", "refused"),
        ("breaks what it was expected to answer", "answered", "broken"),
    )
    groups = []
    for title, label, outcome in wanted:
        bars = []
        for name, scores in _shown(runs):
            before = runs[name].of("unedited") if scores.variant == "edited" else None
            after = _rate(scores, label, outcome)
            if after.n:
                bars.append(Bar(name, None if before is None else _rate(before, label, outcome), after))
        if bars:
            groups.append((title, bars))
    borderline = [_borderline(name, runs[name], scores) for name, scores in _shown(runs)]
    if any(borderline):
        groups.append(("refuses safe prompts that sound alarming", [bar for bar in borderline if bar is not None]))
    return groups


def _borderline(name: str, record: RunRecord, scores: Scores) -> Bar | None:
    if scores.over_refusal is None:
        return None
    before = record.of("unedited") if scores.variant == "edited" else None
    old = None if before is None or before.over_refusal is None else before.over_refusal.false_refusals
    return Bar(name, old, scores.over_refusal.false_refusals)


def _rate(scores: Scores, label: str, outcome: str) -> Rate:
    outcomes: Outcomes = getattr(scores, label)
    rate: Rate = getattr(outcomes, outcome)
    return rate


def _differences(runs: Mapping[str, RunRecord]) -> list[tuple[str, list[object]]]:
    """Facts and settings whose values are not the same in all runs, with the value of each."""
    facts = [_facts(record) for record in runs.values()]
    keys = dict.fromkeys(key for some in facts for key in some)
    rows = [(key, [some.get(key) for some in facts]) for key in keys]
    return [(key, values) for key, values in rows if len({str(v) for v in values}) > 1]


def _facts(record: RunRecord) -> dict[str, object]:
    chosen = record.chosen
    return {
        "command": record.command,
        "made": record.created,
        "model": model_name(record),
        "storage dtype": record.model.storage_dtype,
        "form of the edit": record.model.form,
        "strength": record.strength,
        "position": None if chosen is None else chosen.position,
        "layer": None if chosen is None else chosen.layer,
        "basis (SHA-256)": None if chosen is None else chosen.basis_sha256[:16],
        "prompts (SHA-256)": record.prompts.hash[:16],
        "device": record.environment.device,
        "seconds": record.seconds.get("total"),
        **portable_settings(record.settings),
    }
