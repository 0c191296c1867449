"""The report of a run: one page that loads nothing, made from the record alone.

Prompts and completions are other people's words and the model's; the template escapes everything, and the page's
content policy forbids every request and every script but the page's own, by its hash.
"""

import base64
import hashlib
from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from abliterate.directions.select import Candidate
from abliterate.evals.harness import TaskScore
from abliterate.evals.scores import Outcomes
from abliterate.reports.activations import activation_map, histogram_svg, kl_by_token, steadiness, strengths
from abliterate.reports.cautions import cautions, judge_name
from abliterate.reports.formats import (
    VARIANTS,
    fixed,
    model_name,
    portable_settings,
    portable_source,
    read_template,
    template,
)
from abliterate.reports.geometry import Histogram
from abliterate.reports.headline import headline
from abliterate.reports.plots import candidate_map, outcome_bars, separation_by_layer
from abliterate.reports.record import RunRecord, Sample
from abliterate.reports.verdict import chosen_candidate, verdict

__all__ = ["content_policy", "render_report"]

_CANDIDATES_SHOWN: Final = 20
_SAMPLES_SHOWN: Final = {"refused": 8, "answered": 4}


def render_report(record: RunRecord) -> str:
    """The report as one self-contained HTML page; the same record gives the same bytes."""
    ranked = sorted(record.candidates, key=_rank)
    shown, more = _split_samples(record.samples)
    return template("report.html.j2").render(
        record=record,
        name=model_name(record),
        source=portable_source(record.model.source),
        verdict=verdict(record),
        headline=(figures := headline(record)),
        tested=any("McNemar" in figure.change for figure in figures),
        cautions=cautions(record),
        judge=judge_name(record),
        # Only our own style and script and the figures, which hold nothing of the record but numbers, go in unescaped.
        style=Markup(read_template("report.css")),
        script=Markup(read_template("report.js")),
        policy=Markup(content_policy(read_template("report.js"))),
        variants=VARIANTS,
        drifts=[(VARIANTS[s.variant], s.drift) for s in record.scores if s.drift is not None],
        scores=_by_label(record),
        outcome_bars=Markup(outcome_bars(record)),
        candidate_map=Markup(candidate_map(record)),
        separation=Markup(separation_by_layer(record)),
        borderline=[(VARIANTS[s.variant], s.over_refusal) for s in record.scores if s.over_refusal is not None],
        costs=[(VARIANTS[s.variant], s.costs) for s in record.scores if s.costs is not None],
        perplexed=any(s.costs is not None and s.costs.perplexity is not None for s in record.scores),
        tasks=_tasks(record),
        agreements=[(VARIANTS[s.variant], a) for s in record.scores for a in s.agreement],
        steadiness=Markup(steadiness(record)),
        layers=(layers := _layers(record)),
        start=next((i for i, (_, _, chosen) in enumerate(layers) if chosen), 0),
        activation_map=Markup(activation_map(record)),
        strengths=Markup(strengths(record)),
        kl_by_token=Markup(kl_by_token(record)),
        scored=any(c.bypass is not None or c.screen is not None for c in record.candidates),
        selected=chosen_candidate(record),
        candidates=ranked[:_CANDIDATES_SHOWN],
        more_candidates=ranked[_CANDIDATES_SHOWN:],
        samples=shown,
        more_samples=more,
        is_edited=record.of("edited") is not None,
        sources={key: portable_source(value) for key, value in record.prompts.sources.items()},
        settings=portable_settings(record.settings),
    )


def content_policy(script: str = "") -> str:
    """The content security policy of a page that may run this script and nothing else, and load nothing."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"; script-src 'sha256-{digest}'" if script else ""
    return f"default-src 'none'; style-src 'unsafe-inline'{allowed}; base-uri 'none'; form-action 'none'"


def _by_label(record: RunRecord) -> list[tuple[str, list[tuple[str, Outcomes]]]]:
    return [
        ("refused", [(VARIANTS[s.variant], s.refused) for s in record.scores]),
        ("answered", [(VARIANTS[s.variant], s.answered) for s in record.scores]),
    ]


def _tasks(record: RunRecord) -> dict[str, list[object]]:
    """Every metric of every task with its value in each variant that was scored on it; empty when none was."""
    scored = {VARIANTS[s.variant]: {(t.task, t.metric): t for t in s.tasks} for s in record.scores if s.tasks}
    keys = {key: t for found in scored.values() for key, t in found.items()}
    if not keys:
        return {}
    rows = [
        (task, metric, t.n, [_value(found.get((task, metric))) for found in scored.values()])
        for (task, metric), t in keys.items()
    ]
    return {"variants": list(scored), "rows": list(rows)}


def _value(score: TaskScore | None) -> str:
    if score is None:
        return "–"
    return fixed(score.value, 3) + ("" if score.error is None else f" ± {fixed(score.error, 3)}")


def _rank(c: Candidate) -> tuple[int, float]:
    """Chosen, passed, failed a threshold, screened out, the rest; within each by effect, and the rest by separation."""
    if c.bypass is not None:
        return {"chosen": 0, "passed": 1}.get(c.verdict, 2), _or_last(c.bypass)
    if c.screen is not None:
        return 3, _or_last(c.screen)
    return 4, _or_last(-c.separation)


def _or_last(value: float) -> float:
    """NaN has no place in an order."""
    return value if value == value else float("inf")


def _layers(record: RunRecord) -> list[tuple[Histogram, str, bool]]:
    """Each layer's histogram, its drawing, and whether it is that of the direction."""
    if record.geometry is None:
        return []
    return [
        (h, Markup(histogram_svg(h, _described(h))), h.layer == record.geometry.layer)
        for h in record.geometry.histograms
    ]


def _described(h: Histogram) -> str:
    """A histogram in words: where the middle of each side lies."""
    middles = (f"{side} prompts around {_centre(h, counts)}" for side, counts in _sides(h))
    return f"Layer {h.layer}: {', '.join(middles)}"


def _sides(h: Histogram) -> tuple[tuple[str, list[int]], ...]:
    return ("answered", h.answered), ("refused", h.refused)


def _centre(h: Histogram, counts: Sequence[int]) -> str:
    if not sum(counts):
        return "nowhere"
    middle = sum((i + 0.5) * n for i, n in enumerate(counts)) / sum(counts) / len(counts)
    return f"{h.low + middle * (h.high - h.low):.2g}"


def _split_samples(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """The first few of each label, whatever came of them, and the others."""
    room = dict(_SAMPLES_SHOWN)
    shown: list[Sample] = []
    more: list[Sample] = []
    for sample in samples:
        free = room.get(sample.label, 0)
        room[sample.label] = free - 1
        (shown if free > 0 else more).append(sample)
    return shown, more
