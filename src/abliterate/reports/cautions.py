"""Where a record's figures are weak, in plain sentences: the reader should not have to work it out."""

from collections.abc import Iterator
from typing import Final

from abliterate.evals.statistics import Rate
from abliterate.reports.record import RunRecord

__all__ = ["HELD_OUT", "cautions", "judge_name"]

FEW: Final = 100  # prompts; with fewer, a rate near one half is known to ten points either way at best
WIDE: Final = 0.15  # width of an interval
STEADY: Final = 0.8  # cosine between the directions of two halves of the fit prompts
KEPT: Final = 32  # prompts a side to estimate a mean from

# The built-in judge's precision and recall on the held-out part of its validation set (docs/judges.md).
HELD_OUT: Final = {"refused": (0.975, 0.780), "complied": (0.582, 0.975)}


def cautions(record: RunRecord) -> list[str]:
    """What to keep in mind when quoting this record; empty when it measured nothing and fitted nothing."""
    return [*_prompts(record), *_judge(record), *_control(record), *_changes(record), *_fit(record), *_form(record)]


def judge_name(record: RunRecord) -> str:
    """The judge whose verdicts were counted; records from before there was a choice had the built-in one."""
    judges: list[str] = record.settings.get("evaluation", {}).get("judges") or ["builtin"]
    return judges[0]


def _prompts(record: RunRecord) -> Iterator[str]:
    if not record.scores:
        return
    scores = record.of("edited") or record.scores[0]
    for label, outcomes in (("refused", scores.refused), ("answered", scores.answered)):
        if outcomes.n < FEW:
            yield f"Only {outcomes.n} prompts expected to be {label} were reported on; {FEW} is the least to quote."
        elif _width(outcomes.refused) > WIDE:
            points = 100 * _width(outcomes.refused)
            yield f"The refusal rate of prompts expected to be {label} is known to {points:.0f} points only."


def _judge(record: RunRecord) -> Iterator[str]:
    if not record.scores:
        return
    first = judge_name(record)
    if first != "builtin":
        yield f"The outcomes are the verdicts of {first}, whose precision this record does not hold."
        return
    (refused, missed), (complied, _) = HELD_OUT["refused"], HELD_OUT["complied"]
    yield (
        "The outcomes are the built-in judge’s. On the hard held-out completions of its validation set its verdict"
        f" “refused” is right in {100 * refused:.1f} % of cases and finds {100 * missed:.0f} % of the refusals, and"
        f" “complied” is right in {100 * complied:.1f} %: it takes some refusals without “sorry” and some evasions for"
        " answers. It does not know whether an answer is right."
    )


def _control(record: RunRecord) -> Iterator[str]:
    before, after, control = record.of("unedited"), record.of("edited"), record.of("random")
    if after is None:
        return
    if control is None:
        yield "No random direction was measured beside this one."
    elif before is not None and control.refused.refused.high < before.refused.refused.low:
        yield "A random direction lowers refusals too: part of the effect is not this direction’s."
    if before is not None:
        broken = [s.refused.broken.count + s.answered.broken.count for s in (before, after)]
        if broken[1] > 2 * broken[0] + 4:
            yield f"More completions are broken after the edit than before ({broken[1]}, from {broken[0]})."
    if after.drift is None:
        yield "How far the edit moves harmless answers was not measured."


def _changes(record: RunRecord) -> Iterator[str]:
    for change in record.changes:
        if change.after == "edited" and change.weakness:
            sentence = f"{change.what}: {change.weakness}."
            yield sentence[0].upper() + sentence[1:]


def _fit(record: RunRecord) -> Iterator[str]:
    seen = record.observed
    if seen is not None and min(seen.kept_refused, seen.kept_answered) < KEPT:
        yield (
            f"The direction was estimated from {seen.kept_refused} refused and {seen.kept_answered} answered prompts;"
            f" with fewer than {KEPT} a side it may be another one the next time."
        )

    if record.sensitivity is not None and record.chosen is not None:
        place = (record.chosen.position, record.chosen.layer)
        steady = next((s for s in record.sensitivity.stability if (s.position, s.layer) == place), None)
        if steady is not None and steady.cosine < STEADY:
            yield (
                f"Two halves of the fit prompts give directions with a cosine of {steady.cosine:.2f} only: another"
                " sample of prompts would give another direction."
            )


def _form(record: RunRecord) -> Iterator[str]:
    if record.model.obstacle:
        yield f"The edit is exact by hooks only, and no model was written: {record.model.obstacle}."
    elif record.of("edited") is not None and record.proof is None and record.command != "measure":
        yield "No written model was proved against these figures."


def _width(rate: Rate) -> float:
    return rate.high - rate.low
