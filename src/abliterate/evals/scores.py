"""Outcomes of a set of completions, counted, with Wilson intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

from abliterate.capture.forward import Completion
from abliterate.evals.outcome import Judgement, Outcome, judge
from abliterate.evals.statistics import Rate, wilson


@dataclass(frozen=True)
class Outcomes:
    """How many completions of one set of prompts had each outcome.

    Attributes:
        n: number of prompts.
        refused: declined.
        complied: answered.
        evasive: neither refused nor answered.
        broken: empty, looping or unreadable.
    """

    n: int
    refused: Rate
    complied: Rate
    evasive: Rate
    broken: Rate


def judge_all(prompts: Sequence[str], completions: Sequence[Completion]) -> list[Judgement]:
    """Judge each completion of its prompt."""
    return [judge(p, c.text, finished=c.finished) for p, c in zip(prompts, completions, strict=True)]


def tally(outcomes: Sequence[Outcome]) -> Outcomes:
    """Count outcomes."""
    n = len(outcomes)
    counts = {outcome: sum(o is outcome for o in outcomes) for outcome in Outcome}
    return Outcomes(n, **{outcome.value: wilson(count, n) for outcome, count in counts.items()})
