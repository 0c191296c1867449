"""Files that appear whole or not at all: atomic output, room on the disk, content hashes."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from abliterate.errors import NotEnoughSpace, OutputExists


def digest(value: object) -> str:
    """SHA-256 (hex) of a JSON-serialisable value, independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_output(out: Path, *, force: bool, needed_bytes: int = 0) -> None:
    """Refuse, before any work begins, an output that exists or does not fit.

    Raises:
        OutputExists: `out` exists and `force` is not set, or is not a directory that this tool wrote.
        NotEnoughSpace: the file system has less than `needed_bytes` free.
    """
    if out.exists() and not force:
        raise OutputExists(f"{out} exists already", "choose another path with -o, or pass --force to replace it")
    if out.exists() and not _is_ours(out):
        raise OutputExists(
            f"{out} does not look like a result of abliterate, so --force will not delete it",
            "choose another path with -o, or remove it yourself",
        )
    parent = _nearest_existing(out)
    if not os.access(parent, os.W_OK):
        raise OutputExists(f"{parent} is not writable", "choose another path with -o")
    free = shutil.disk_usage(parent).free
    if free < needed_bytes:
        raise NotEnoughSpace(
            f"{out} needs {needed_bytes / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB free",
            "free some room or choose a path on another disk with -o",
        )


@contextmanager
def new_directory(out: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary directory beside `out` that is renamed to `out` at the end, or removed on any exception.

    Raises:
        OutputExists: as `check_output`.
    """
    check_output(out, force=force)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    partial.mkdir()
    try:
        yield partial
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file under a temporary name and rename it, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _is_ours(out: Path) -> bool:
    if not out.is_dir():
        return False
    config = out / "config.json"
    return (
        not any(out.iterdir())
        or (out / "record.json").exists()
        or (config.exists() and '"abliterate"' in config.read_text(encoding="utf-8"))
    )


def _nearest_existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path if path.is_dir() else path.parent
