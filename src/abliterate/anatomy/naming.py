"""Names that differ only in their numbers, such as those of the same part of every block."""

import re
from collections.abc import Iterable


def pattern(name: str) -> str:
    """A name with N for every number between dots."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "N", name)


def places(names: Iterable[str]) -> dict[str, list[str]]:
    """Names grouped by their pattern, in order."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(pattern(name), []).append(name)
    return groups
