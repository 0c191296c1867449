"""Files that appear whole or not at all: atomic output, room on the disk, content hashes."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from abliterate.errors import NotEnoughSpace, OutputExists

ELSEWHERE = "choose another path with -o"


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
        OutputExists: `out` exists and `force` is not set, or is not a directory that this tool wrote, or cannot be
            made where it is.
        NotEnoughSpace: the file system has less than `needed_bytes` free.
    """
    if out.name in ("", "..") or out.is_symlink():  # neither can be renamed over
        raise OutputExists(f"{out} is not the name of a directory of its own", ELSEWHERE)
    if out.exists() and not force:
        raise OutputExists(f"{out} exists already", f"{ELSEWHERE}, or pass --force to replace it")
    if out.exists() and not _is_ours(out):
        raise OutputExists(
            f"{out} does not look like a result of abliterate, so --force will not delete it",
            f"{ELSEWHERE}, or remove it yourself",
        )
    check_room(out, needed_bytes)


def check_room(path: Path, needed_bytes: int = 0, *, elsewhere: str = ELSEWHERE) -> None:
    """Refuse, before any work begins, a place where `path` cannot be made.

    Args:
        path: of what is going to be written.
        needed_bytes: its size.
        elsewhere: how to choose another place, for the message.

    Raises:
        OutputExists: what should be its parent is a file, or is not writable.
        NotEnoughSpace: the file system has less than `needed_bytes` free.
    """
    parent = _nearest_existing(path.absolute().parent)
    if not parent.is_dir():
        raise OutputExists(f"{parent} is not a directory, so {path} cannot be made", elsewhere)
    if not os.access(parent, os.W_OK):
        raise OutputExists(f"{parent} is not writable", elsewhere)
    free = shutil.disk_usage(parent).free
    if free < needed_bytes:
        raise NotEnoughSpace(
            f"{path} needs {needed_bytes / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB free",
            f"free some room, or {elsewhere}",
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
    while not path.exists():
        path = path.parent
    return path
