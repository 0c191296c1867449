"""The verbs that read records and write pages and plots; no model is loaded."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from abliterate.errors import OutputExists
from abliterate.files import check_room, write_atomic
from abliterate.reports.compare import render_comparison
from abliterate.reports.gallery import draw_all, load_run, load_runs
from abliterate.reports.html import render_report
from abliterate.ui.console import Console


def report(paths: Sequence[Path], out: Path | None, *, force: bool, json: bool) -> None:
    """`abliterate report`.

    Raises:
        ArtifactError: a record cannot be read.
        OutputExists: `out` exists, is a directory, or cannot be written.
    """
    runs = load_runs(paths)
    out = out or Path("report.html" if len(runs) == 1 else "comparison.html")
    _check([out], force=force)
    page = render_report(next(iter(runs.values()))) if len(runs) == 1 else render_comparison(runs)
    _write({out: page.encode()}, json=json)


def plot(path: Path, out: Path | None, kind: Literal["svg", "png"], *, force: bool, json: bool) -> None:
    """`abliterate plot`.

    Raises:
        ArtifactError: the record cannot be read.
        OutputExists: a file of a plot's name exists, or `out` cannot be written.
    """
    record = load_run(path)
    folder = out or Path(f"{path.resolve().name if path.is_dir() else path.resolve().parent.name}-plots")
    files = {folder / name: data for name, data in draw_all(record, kind).items()}
    _check([folder / "plot", *files], force=force)
    _write(files, json=json)


def _check(files: Sequence[Path], *, force: bool) -> None:
    for file in files:
        if file.is_dir():
            raise OutputExists(f"{file} is a directory", "name a file with -o")
        if file.exists() and not force:
            raise OutputExists(f"{file} exists already", "choose another path with -o, or pass --force to replace it")
        check_room(file)


def _write(files: Mapping[Path, bytes], *, json: bool) -> None:
    for file, data in files.items():
        write_atomic(file, data)
    Console(json=json).written(list(files))
