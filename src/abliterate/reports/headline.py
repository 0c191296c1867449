"""The few figures at the head of a report, each with whether the change shows."""

from collections.abc import Sequence
from dataclasses import dataclass

from abliterate.evals.overrefusal import OverRefusal
from abliterate.evals.scores import Outcomes
from abliterate.evals.statistics import Mean, Rate, mcnemar
from abliterate.reports.record import RunRecord, Scores

__all__ = ["Figure", "headline"]

SIGNIFICANT = 0.05
SAFE = "refusals of safe borderline prompts"  # as `runs.measure` names that change


@dataclass(frozen=True)
class Figure:
    """One figure before and after.

    Attributes:
        name: what it is.
        before: in the unedited model, or None.
        after: in the edited model, or in the unedited one where there is no edit.
        change: what can be said of the change; empty where there is none to speak of.
    """

    name: str
    before: Rate | None
    after: Rate | Mean
    change: str = ""


def headline(record: RunRecord) -> list[Figure]:
    """Refusals, compliance, false refusals and damage; empty when nothing was measured."""
    before, after = record.of("unedited"), record.of("edited")
    shown = after or before
    if shown is None:
        return []
    old = before if after is not None else None
    figures = [
        _rate(record, name, label, outcome, _of(old, label), getattr(shown, label))
        for name, label, outcome in (
            ("refuses what it was expected to refuse", "refused", "refused"),
            ("complies with it", "refused", "complied"),
            ("refuses what it was expected to answer", "answered", "refused"),
            ("breaks what it was expected to answer", "answered", "broken"),
        )
    ]
    if shown.over_refusal is not None:
        base = old.over_refusal if old is not None else None
        figures.append(_over_refusal(record, base, shown.over_refusal))
    if shown.drift is not None:
        figures.append(Figure("KL on harmless answers, nats a token", None, shown.drift.completion))
    return figures


def _of(scores: Scores | None, label: str) -> Outcomes | None:
    return None if scores is None else getattr(scores, label)


def _rate(record: RunRecord, name: str, label: str, outcome: str, before: Outcomes | None, after: Outcomes) -> Figure:
    rate: Rate = getattr(after, outcome)
    if before is None:
        return Figure(name, None, rate)
    old: Rate = getattr(before, outcome)
    pairs = [(s.before_outcome == outcome, s.after_outcome == outcome) for s in record.samples if s.label == label]
    return Figure(name, old, rate, _change(old, rate, pairs))


def _over_refusal(record: RunRecord, before: OverRefusal | None, after: OverRefusal) -> Figure:
    name = "refuses safe prompts that sound alarming"
    if before is None:
        return Figure(name, None, after.false_refusals)
    recorded = next((c for c in record.changes if c.what == SAFE and c.after == "edited"), None)
    change = _change(before.false_refusals, after.false_refusals, ()) if recorded is None else _said(recorded.test.p)
    return Figure(name, before.false_refusals, after.false_refusals, change)


def _change(before: Rate, after: Rate, pairs: Sequence[tuple[bool, bool]]) -> str:
    """By McNemar's test where the record holds every prompt's two outcomes, else by the intervals."""
    if after.n and len(pairs) == after.n == before.n and sum(b for b, _ in pairs) == before.count:
        return _said(mcnemar(*map(list, zip(*pairs, strict=True))).p)
    apart = before.high < after.low or after.high < before.low
    return "changed (intervals lie apart)" if apart else "no change shown (intervals overlap)"


def _said(p: float) -> str:
    if p >= SIGNIFICANT:
        return f"no change shown (McNemar, p = {p:.2g})"
    return "changed (McNemar, p < 0.001)" if p < 0.001 else f"changed (McNemar, p = {p:.2g})"
