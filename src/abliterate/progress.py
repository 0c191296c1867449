"""How long work reports its progress without knowing who shows it: `ui` draws it, tests and scripts ignore it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Progress(Protocol):
    """Receives the progress of long work."""

    def track(self, title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Open a bar of `total` steps; the value yielded advances it by so many steps."""
        ...

    def note(self, message: str) -> None:
        """Tell the user one line about what was found or decided."""
        ...


class Silent:
    """The default: nobody is watching."""

    @contextmanager
    def track(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """Ignore every step."""
        yield lambda steps: None

    def note(self, message: str) -> None:
        """Ignore the message."""


SILENT = Silent()
