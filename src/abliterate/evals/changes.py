"""Two looks at the same prompts: what changed, whether chance would do as much, and whether so few prompts could tell.

Rates are compared prompt by prompt (McNemar's test, Newcombe's paired interval), numbers by a paired bootstrap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from abliterate.evals.statistics import Difference, McNemar, detectable, mcnemar, newcombe_paired, paired_bootstrap

__all__ = ["Change", "Shift", "change", "shift", "weakness"]


@dataclass(frozen=True)
class Change:
    """How a rate changed between two looks at the same prompts.

    Attributes:
        what: which rate.
        before: name of the first look.
        after: name of the second.
        test: McNemar's, exact.
        difference: of the rates, after - before, -1..1.
        weakness: in words, what so few prompts could not show; empty where the interval leaves out zero.
    """

    what: str
    before: str
    after: str
    test: McNemar
    difference: Difference
    weakness: str

    def format(self) -> str:
        """Like `refused, unedited to edited: -0.900 [...] (Newcombe, paired, n = 96), McNemar p = 2e-27`."""
        return f"{self.what}, {self.before} to {self.after}: {self.difference}, McNemar p = {self.test.p:.2g}"


@dataclass(frozen=True)
class Shift:
    """How a mean changed between two looks at the same prompts.

    Attributes:
        what: which mean, with its unit.
        before: name of the first look.
        after: name of the second.
        difference: after - before, in that unit.
    """

    what: str
    before: str
    after: str
    difference: Difference


def change(what: str, names: tuple[str, str], before: Sequence[bool], after: Sequence[bool]) -> Change | None:
    """Compare a property of the same prompts before and after; None of no prompts.

    Args:
        what: the rate that it makes.
        names: of the two looks.
        before: whether each prompt had it.
        after: whether it has it.

    Raises:
        ValueError: the two are not the same length: a bug in the caller.
    """
    if not before and not after:
        return None
    difference = newcombe_paired(before, after)
    rate = sum(before) / len(before)
    return Change(what, *names, mcnemar(before, after), difference, weakness(difference, rate))


def shift(what: str, names: tuple[str, str], before: Sequence[float], after: Sequence[float], *, seed: int) -> Shift:
    """Compare a number of the same prompts before and after.

    Raises:
        ValueError: there are no pairs, or one side has more: a bug in the caller.
    """
    return Shift(what, *names, paired_bootstrap(before, after, seed=seed))


def weakness(difference: Difference, rate: float) -> str:
    """In plain words, what these prompts could not have shown; empty where they showed a difference.

    The power is that of independent prompts, which asks for more of them than pairs that agree do: a careful bound.

    Args:
        difference: of two rates.
        rate: the first of them, 0..1.
    """
    if difference.tells:
        return ""
    n = difference.n
    least = detectable(n, rate)
    start = f"{n} prompts do not settle whether this changed: starting from {100 * rate:.0f} %, "
    if least is None:
        return start + "even the largest possible change would probably stay within chance"
    return start + f"a change of less than {100 * least:.0f} points goes unnoticed more than one time in five"
