"""Prompts that carry their use in their type: one that chose something cannot be reported on.

`Used[Select]` is no `Used[Report]`, so a type checker refuses to measure on it, and what measures asks at run time
too. Both are tuples of texts wherever the use does not matter.
"""

from collections.abc import Iterable
from typing import Final, Generic, TypeVar

from abliterate.capture.prompts import PromptSet, Split


class Fit:
    """Prompts that estimate a direction."""


class Select:
    """Prompts that choose among candidates."""


class Report:
    """Prompts that give figures, and have chosen nothing."""


U = TypeVar("U", Fit, Select, Report)

_SPLITS: Final[dict[type, Split]] = {Fit: Split.FIT, Select: Split.SELECT, Report: Split.REPORT}


class Used(tuple[str, ...], Generic[U]):
    """Texts of prompts with their one use. A slice of it is a plain tuple, which nothing that measures accepts.

    Attributes:
        use: `Fit`, `Select` or `Report`.
    """

    use: type[U]

    def __new__(cls, use: type[U], texts: Iterable[str] = ()) -> "Used[U]":
        """Give texts a use."""
        made = super().__new__(cls, texts)
        made.use = use
        return made


def take(prompts: PromptSet, use: type[U], limit: int | None = None) -> Used[U]:
    """The texts of a set whose split is for this use, at most `limit` of them."""
    return Used(use, prompts.take(_SPLITS[use], limit))


def reportable(prompts: Used[Report]) -> Used[Report]:
    """The same prompts, if they may be reported on.

    Raises:
        TypeError: they are for another use, or do not say: a bug in the caller, which a type checker shows.
    """
    if not isinstance(prompts, Used) or prompts.use is not Report:
        use = prompts.use.__name__ if isinstance(prompts, Used) else "no known use"
        raise TypeError(f"only prompts for Report may be reported on; these are for {use}")
    return prompts
