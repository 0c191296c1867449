"""The report of a run: one page that loads nothing, made from the record alone.

Prompts and completions are other people's words and the model's; the template escapes everything, and the page's
content policy forbids every request and every script but the page's own, by its hash. The page is meant to be passed
on, so absolute paths are cut to their last part; `record.json` holds them in full.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Final

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from abliterate.directions.select import Candidate
from abliterate.edits.proof import Proof
from abliterate.evals.scores import Outcomes
from abliterate.evals.statistics import Difference, Mean, Rate
from abliterate.reports.activations import activation_map, histogram_svg, kl_by_token, steadiness, strengths
from abliterate.reports.cautions import cautions, judge_name
from abliterate.reports.geometry import Histogram
from abliterate.reports.headline import headline
from abliterate.reports.plots import candidate_map, outcome_bars, separation_by_layer
from abliterate.reports.record import RunRecord, Sample, Scores, Variant

__all__ = [
    "VARIANTS",
    "content_policy",
    "format_mean",
    "format_rate",
    "model_name",
    "portable_settings",
    "portable_source",
    "read_template",
    "render_report",
    "template",
    "verdict",
]

VARIANTS: Final[dict[Variant, str]] = {
    "unedited": "unedited",
    "edited": "edited",
    "random": "random direction",
    "shuffled": "shuffled labels",
}
_SUPERSCRIPT: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_OPEN_CHARACTERS: Final = 400
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
        agreements=[(VARIANTS[s.variant], a) for s in record.scores for a in s.agreement],
        steadiness=Markup(steadiness(record)),
        layers=(layers := _layers(record)),
        start=next((i for i, (_, _, chosen) in enumerate(layers) if chosen), 0),
        activation_map=Markup(activation_map(record)),
        strengths=Markup(strengths(record)),
        kl_by_token=Markup(kl_by_token(record)),
        scored=any(c.bypass is not None or c.screen is not None for c in record.candidates),
        selected=_chosen_candidate(record),
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


def verdict(record: RunRecord) -> list[str]:
    """What the run found, in plain sentences; of what the record does not hold it says that, or nothing."""
    name = model_name(record)
    before, after = record.of("unedited"), record.of("edited")
    if after is not None:
        sentences = _verdict_edited(name, record, before, after)
    elif before is not None:
        sentences = _verdict_unedited(name, before)
    else:
        sentences = _verdict_unmeasured(name, record)
    return sentences + _verdict_proof(record.proof)


def model_name(record: RunRecord) -> str:
    """The hub id of the model, or the name of its directory."""
    if record.model.revision != "local":
        return record.model.source
    return _last_part(record.model.source) or "model"


def portable_source(source: str) -> str:
    """A source of a model or of prompts without the directories above it, which are nobody else's business."""
    return _last_part(source) if _is_absolute(source) else source


def portable_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by dotted key, without the cache and with file names instead of absolute paths."""
    flat: dict[str, Any] = {}
    for section, values in settings.items():
        inner = values if isinstance(values, Mapping) else {"": values}
        flat |= {f"{section}.{key}".rstrip("."): value for key, value in inner.items()}
    flat.pop("cache", None)
    return {
        # A system prompt may begin with a slash and is no path for that.
        key: portable_source(value) if isinstance(value, str) and key != "model.system_prompt" else value
        for key, value in flat.items()
    }


def format_rate(rate: Rate) -> str:
    """Like `2 of 117 (1.7 % [0.5, 6.0])`."""
    return f"{rate.count} of {rate.n} ({_percent(rate)})"


def format_mean(mean: Mean) -> str:
    """Like `0.031 [0.024, 0.040]`, with more decimals where three would show nothing."""
    decimals = 3 if mean.mean >= 0.01 or mean.mean == 0 else 5
    return f"{mean.mean:.{decimals}f} [{mean.low:.{decimals}f}, {mean.high:.{decimals}f}]"


def template(name: str) -> Template:
    """A template of this package, with the formats that all of them use as filters; HTML is escaped."""
    return _environment(html=name.endswith(".html.j2")).from_string(read_template(name))


# --- sentences ---


def _verdict_edited(name: str, record: RunRecord, before: Scores | None, after: Scores) -> list[str]:
    strength = "" if record.strength in (None, 1.0) else f" at strength {record.strength:g}"
    refused, answered = after.refused, after.answered
    sentences = [
        f"Edited{strength}, {name} refuses {format_rate(refused.refused)} of the prompts it was expected to refuse"
        + _from(before.refused.refused if before else None)
        + f", and complies with {refused.complied.count}"
        + (f", from {before.refused.complied.count}." if before else ".")
    ]
    if before is not None and _overlap(before.refused.refused, refused.refused):
        sentences.append("The two intervals overlap: these prompts do not settle whether the edit changed that rate.")
    sentences += _verdict_control(record.of("random"), before)
    sentences.append(
        f"Of the prompts it was expected to answer it refuses {format_rate(answered.refused)}"
        f"{_from(before.answered.refused if before else None)}."
    )
    return [*sentences, *_verdict_drift(record), _verdict_broken(before, after)]


def _verdict_control(control: Scores | None, before: Scores | None) -> list[str]:
    if control is None:
        return []
    refused = control.refused.refused
    sentences = [
        f"A random direction of the same size, removed in the same way, leaves {format_rate(refused)} refused."
    ]
    if before is not None and refused.high < before.refused.refused.low:
        sentences.append("That is fewer than before too, so part of the effect does not come from this direction.")
    return sentences


def _verdict_broken(before: Scores | None, after: Scores) -> str:
    def broken(scores: Scores) -> int:
        return scores.refused.broken.count + scores.answered.broken.count

    total = after.refused.n + after.answered.n
    since = f", from {broken(before)}" if before is not None else ""
    verb = "is" if broken(after) == 1 else "are"
    return f"{broken(after)} of all {total} completions {verb} broken (empty, looping or unreadable){since}."


def _verdict_drift(record: RunRecord) -> list[str]:
    edited = record.of("edited")
    if edited is None or edited.drift is None:
        return ["How far the edit moves those answers was not measured."]
    sentence = (
        f"On these the edit moves the first token by a KL of {format_mean(edited.drift.first_token)} nats"
        f" and whole completions by {format_mean(edited.drift.completion)} nats a token"
    )
    control = record.of("random")
    if control is not None and control.drift is not None:
        sentence += (
            f"; the random direction by {format_mean(control.drift.first_token)}"
            f" and {format_mean(control.drift.completion)}"
        )
    return [sentence + "."]


def _verdict_unedited(name: str, scores: Scores) -> list[str]:
    refused, answered = scores.refused, scores.answered
    return [
        f"Unedited, {name} refuses {format_rate(refused.refused)} of the prompts it was expected to refuse,"
        f" and complies with {refused.complied.count}.",
        f"Of the prompts it was expected to answer it refuses {format_rate(answered.refused)}.",
        "No edit was measured.",
    ]


def _verdict_unmeasured(name: str, record: RunRecord) -> list[str]:
    chosen, selected = record.chosen, _chosen_candidate(record)
    if chosen is None:
        return [f"This record of {name} holds neither a direction nor scores."]
    place = f"position {_minus(chosen.position)}, at the input of layer {chosen.layer} of {record.model.layers}"
    if record.proof is not None:
        strength = "" if record.strength is None else f" with strength {record.strength:g}"
        sentences = [f"The refusal direction of {name} ({place}) was ablated from the weights{strength}."]
    else:
        sentences = [f"A refusal direction of {name} was found at {place}."]
    if selected is not None and None not in (selected.bypass, selected.induce, selected.kl):
        sentences.append(
            f"On the prompts it was selected with, removing it brings the refusal score to {_fixed(selected.bypass)}"
            f" log-odds, adding it brings that of answered prompts to {_fixed(selected.induce)},"
            f" and removing it moves their first token by a KL of {_fixed(selected.kl, 3)} nats."
        )
    return [*sentences, "What the edit does to refusals and answers on held-out prompts was not measured in this run."]


def _verdict_proof(proof: Proof | None) -> list[str]:
    if proof is None:
        return []
    return [
        "The edited checkpoint was reloaded from disk and does what the edit says:"
        f" at most {_small(proof.component)} of the stream lies along the direction,"
        f" from {_small(proof.component_unedited)}, and its logits are within {100 * proof.logit_difference:.2g} % of"
        f" the hooked model’s (allowed: {100 * proof.logit_tolerance:.2g} %)."
    ]


def _from(rate: Rate | None) -> str:
    return "" if rate is None else f", from {rate.count} ({_percent(rate)})"


def _overlap(one: Rate, other: Rate) -> bool:
    return one.low <= other.high and other.low <= one.high


# --- what the template shows ---


def _by_label(record: RunRecord) -> list[tuple[str, list[tuple[str, Outcomes]]]]:
    return [
        ("refused", [(VARIANTS[s.variant], s.refused) for s in record.scores]),
        ("answered", [(VARIANTS[s.variant], s.answered) for s in record.scores]),
    ]


def _chosen_candidate(record: RunRecord) -> Candidate | None:
    place = record.chosen and (record.chosen.position, record.chosen.layer)
    return next((c for c in record.candidates if (c.position, c.layer) == place), None)


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


# --- formats ---


def _percent(rate: Rate) -> str:
    if not rate.n:
        return "no data"
    return f"{100 * rate.rate:.1f} % [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"


def _interval(rate: Rate) -> str:
    return f"[{100 * rate.low:.1f}, {100 * rate.high:.1f}]\u00a0%".replace(", ", ",\u00a0")


def _difference(d: Difference) -> str:
    """Like `0.031 [0.024, 0.040]`, signed."""
    return _minus(f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}]")


def _points(d: Difference) -> str:
    """A difference of shares in percentage points."""
    return _minus(f"{100 * d.value:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]")


def _share(rate: Rate) -> str:
    return f"{100 * rate.rate:.1f}\u00a0%" if rate.n else "no data"


def _minus(number: object) -> str:
    return str(number).replace("-", "−")


def _fixed(value: float | None, decimals: int = 2) -> str:
    """A number for a table; a dash for what was not measured."""
    if value is None or value != value:
        return "–"
    return _minus(f"{value:.{decimals}f}")


def _small(value: float) -> str:
    """Two figures, like 0.62 or 2.3 × 10⁻⁴."""
    if value == 0 or value != value or value >= 0.001:
        return f"{value:.2g}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}"


def _opening(text: str) -> str:
    """As much of a completion as stands open on the page."""
    return text if len(text) <= _OPEN_CHARACTERS else text[:_OPEN_CHARACTERS].rstrip()


def _rest(text: str) -> str:
    """What `_opening` leaves."""
    return text[len(_opening(text)) :]


def _setting(value: object) -> str:
    if value is None:
        return "–"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _date(created: str) -> str:
    return created.replace("T", " ").replace("+00:00", " UTC")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _thousands(number: int) -> str:
    return f"{number:,}".replace(",", "\u202f")


def _bound(text: str) -> str:
    """Keep a number with its unit and its interval in one line."""
    text = re.sub(r"\[[\d., ]+\]", lambda match: match[0].replace(" ", "\u00a0"), text)
    return text.replace(" %", "\u00a0%").replace(" [", "\u00a0[")


def _markdown(text: str) -> str:
    """Text for a paragraph of Markdown in which nothing is markup."""
    return re.sub(r"([\\`*_<>|#&])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """Text for a code span of Markdown, in a table too."""
    return re.sub(r"[`|\s]+", " ", text)


def _is_absolute(path: str) -> bool:
    return path.startswith("~") or PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()


def _last_part(path: str) -> str:
    return PureWindowsPath(path).name  # reads both kinds of separators


def read_template(name: str) -> str:
    """The text of a file in the folder of templates."""
    return (resources.files("abliterate") / "reports" / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment(*, html: bool) -> Environment:
    environment = Environment(
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "bound": _bound,
        "code": _code,
        "date": _date,
        "difference": _difference,
        "duration": _duration,
        "fixed": _fixed,
        "interval": _interval,
        "md": _markdown,
        "mean": format_mean,
        "minus": _minus,
        "opening": _opening,
        "percent": _percent,
        "points": _points,
        "rate": format_rate,
        "rest": _rest,
        "setting": _setting,
        "share": _share,
        "small": _small,
        "thousands": _thousands,
    }
    return environment
