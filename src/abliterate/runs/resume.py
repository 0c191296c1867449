"""Finished stages of a run, kept in the user's cache so that the same command takes up where it was.

A run's folder is named by a hash of everything that its results depend on; a change of any of it starts anew. The
folder is deleted when the run is done, so a repeated run measures again.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from abliterate.anatomy.checkpoint import weight_files
from abliterate.anatomy.load import Subject
from abliterate.files import digest, write_atomic
from abliterate.progress import SILENT, Progress

T = TypeVar("T")

ANOTHER_CACHE = "choose another cache with --set cache=DIR"


def fingerprint(subject: Subject) -> str:
    """Identity of a model's weights that is cheap to take: its files' names, sizes and times, and its commit."""
    files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in weight_files(subject.directory)]
    return digest([subject.source, subject.revision, subject.config_hash, files])


class Stages:
    """Computes each stage once.

    Args:
        folder: of this run; created when the first stage is done.
        progress: told of stages that were done before.

    Attributes:
        seconds: time each stage took, in this process.
    """

    def __init__(self, folder: Path, progress: Progress = SILENT) -> None:
        self.folder = folder
        self.progress = progress
        self.seconds: dict[str, float] = {}

    def value(self, name: str, kind: type[T], compute: Callable[[], T]) -> T:
        """The stage's value, of a type that pydantic can write as JSON, read back or computed now."""
        adapter = TypeAdapter(kind)
        path = self.folder / f"{name}.json"
        try:
            value = adapter.validate_json(path.read_bytes())
        except (OSError, ValidationError):
            value = self._timed(name, compute)
            write_atomic(path, adapter.dump_json(value))
        else:
            self.progress.note(f"{name}: taken up from an earlier run")
        return value

    def tensor(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """The stage's tensor, read back or computed now."""
        path = self.folder / f"{name}.safetensors"
        try:
            value = load_file(path)["value"]
        except (OSError, SafetensorError, KeyError):
            value = self._timed(name, compute)
            write_atomic(path, save({"value": value.contiguous()}))
        else:
            self.progress.note(f"{name}: taken up from an earlier run")
        return value

    def each(self, name: str, keys: Iterable[str], kind: type[T], compute: Callable[[str], T]) -> Iterator[T]:
        """The values of many small steps, each kept as soon as it is done."""
        adapter = TypeAdapter(dict[str, kind])  # type: ignore[valid-type]
        path = self.folder / f"{name}.json"
        try:
            done: dict[str, T] = adapter.validate_json(path.read_bytes())
        except (OSError, ValidationError):
            done = {}
        for key in keys:
            if key not in done:
                done[key] = self._timed(name, lambda key=key: compute(key))  # type: ignore[misc]
                write_atomic(path, adapter.dump_json(done))
            yield done[key]

    def clear(self) -> None:
        """Forget everything: the run is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _timed(self, name: str, compute: Callable[[], T]) -> T:
        start = time.perf_counter()
        value = compute()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        return value
