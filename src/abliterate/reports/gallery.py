"""All plots of a record, and records by name: what the verbs that read records need."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from abliterate.reports.activations import activation_map, histogram_grid, kl_by_token, steadiness, strengths
from abliterate.reports.canvas import Plot
from abliterate.reports.plots import candidate_map, outcome_bars, separation_by_layer
from abliterate.reports.record import RunRecord

__all__ = ["PLOTS", "draw_all", "load_run", "load_runs"]

PLOTS: Final[tuple[Plot, ...]] = (
    outcome_bars,
    kl_by_token,
    candidate_map,
    separation_by_layer,
    steadiness,
    histogram_grid,
    activation_map,
    strengths,
)


def draw_all(record: RunRecord, kind: Literal["svg", "png"]) -> dict[str, bytes]:
    """Every plot that the record holds something for, by file name."""
    drawn = {f"{plot.name}.{kind}": plot.svg(record) if kind == "svg" else plot.png(record) for plot in PLOTS}
    return {name: data for name, data in drawn.items() if data}


def load_run(path: Path) -> RunRecord:
    """The record at a path: of a run's directory, or the file itself.

    Raises:
        ArtifactError: there is none, or it is damaged or of another schema version.
    """
    return RunRecord.load(path / "record.json" if path.is_dir() else path)


def load_runs(paths: Sequence[Path]) -> dict[str, RunRecord]:
    """Records by name, in the order given.

    A run is named by its directory; where two share a name, by as much of their paths as tells them apart.

    Raises:
        ArtifactError: as `load_run`.
    """
    records = [load_run(path) for path in paths]
    folders = [path.resolve() if path.is_dir() else _named(path.resolve()) for path in paths]
    names = [folder.name for folder in folders]
    depth = 2
    while len(set(names)) < len(names) and depth < max(len(folder.parts) for folder in folders):
        names = ["/".join(folder.parts[-depth:]) for folder in folders]
        depth += 1
    if len(set(names)) < len(names):  # the same run twice
        names = [f"{name} ({i})" for i, name in enumerate(names, 1)]
    return dict(zip(names, records, strict=True))


def _named(path: Path) -> Path:
    """A run's directory for its record.json, and any other file itself."""
    return path.parent if path.name == "record.json" else path.with_suffix("")
