"""What `abliterate inspect` tells of a model: blocks, writers by their names on disk, which edits are exact."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from abliterate.anatomy.dissect import Form
from abliterate.anatomy.layout import StoredWriter
from abliterate.anatomy.naming import places
from abliterate.anatomy.study import Study
from abliterate.anatomy.writers import Gain


@dataclass(frozen=True)
class Row:
    """Writers with one place in their blocks.

    Attributes:
        stored: their name on disk, with `N` for the numbers of block and expert.
        parameter: their name in memory, likewise.
        tensors: how many lie on disk under that name.
        layers: the blocks they are in; empty outside of all.
        shape: of the whole parameter in memory.
        axis_in_memory: its axis along the stream.
        out_axis: the axis along the stream on disk.
        kind: `matrix`, `embedding`, `experts` or `bias`.
        gains: what stands between them and the stream, from the stream back.
        tied_to: other names in memory of the same parameter, likewise.
        held: what is to be said of how it is stored: `requantised`, or why it cannot be edited; mostly empty.
    """

    stored: str
    parameter: str
    tensors: int
    layers: tuple[int, ...]
    shape: tuple[int, ...]
    axis_in_memory: int
    out_axis: int
    kind: str
    gains: tuple[str, ...]
    tied_to: tuple[str, ...]
    held: str


@dataclass(frozen=True)
class Inspection:
    """The anatomy of a model as its user sees it.

    Attributes:
        source: the directory or hub id.
        architecture: the class of the model.
        width, layers: d and L.
        blocks: what the blocks are called, with `N` for their number.
        rows: every writer; empty where only hooks are exact.
        hooked: where hooks go, with `N` for numbers, and how many.
        forms: for `weights`, `adapter` and `hooks`, an empty text where the edit is exact, or why it is not.
        weights_read: whether names are those of a checkpoint, or those that transformers would write.
    """

    source: str
    architecture: str
    width: int
    layers: int
    blocks: tuple[str, ...]
    rows: tuple[Row, ...]
    hooked: Mapping[str, int]
    forms: Mapping[str, str]
    weights_read: bool


def inspect(
    source: str | Path,
    study: Study,
    shapes: Mapping[str, tuple[int, ...]] | None,
    held: Callable[[str], str] = lambda name: "",
) -> Inspection:
    """Describe a model.

    Args:
        source: what the user called it.
        study: of its configuration.
        shapes: of the weights of its checkpoint, by name on disk, or None where there is no checkpoint.
        held: what is to be said of how a weight is stored (`Row.held`).

    Raises:
        UnsupportedModel: a writer is not in the checkpoint.
    """
    anatomy, layout = study.anatomy, study.layout
    weights = anatomy.form is Form.WEIGHTS
    if not weights:
        parts: list[StoredWriter] = []
    elif shapes is None:
        parts = layout.as_saved()
    else:
        parts = layout.parts(shapes)
        if not any(held(part.name) for part in parts):  # of what is stored otherwise the sizes are not those in memory
            layout.find(shapes)
    ties = {name: tie.names for tie in layout.ties() for name in tie.names}
    by_name = {part.name: part for part in parts}
    rows = tuple(
        _row(group, pattern, study, ties, held)
        for pattern, names in places(by_name).items()
        for group in _alike([by_name[name] for name in names], study)
    )
    return Inspection(
        source=str(source),
        architecture=study.architecture,
        width=anatomy.width,
        layers=anatomy.layers,
        blocks=tuple(places(anatomy.blocks)),
        rows=rows,
        hooked={pattern: len(names) for pattern, names in places(site.name for site in anatomy.sites).items()},
        forms={
            "weights": anatomy.reason or _held(rows),
            "adapter": "as for the weights" if anatomy.reason else _adapter(rows),
            "hooks": "",
        },
        weights_read=shapes is not None,
    )


def _alike(parts: list[StoredWriter], study: Study) -> list[list[StoredWriter]]:
    """Parts of one name, apart where blocks differ: in what stands behind them, in shape or in axis."""
    groups: dict[object, list[StoredWriter]] = {}
    for part in parts:
        gains = tuple(_gain(gain) for gain in part.writer.gains)
        groups.setdefault((gains, study.shapes[part.writer.parameter], part.out_axis), []).append(part)
    return list(groups.values())


def _row(
    parts: list[StoredWriter],
    pattern: str,
    study: Study,
    ties: Mapping[str, tuple[str, ...]],
    held: Callable[[str], str],
) -> Row:
    first = parts[0].writer
    by_writer: dict[str, list[StoredWriter]] = {}
    for part in parts:
        by_writer.setdefault(part.writer.parameter, []).append(part)
    layers = sorted({part.writer.layer for part in parts if part.writer.layer is not None})
    others = [name for name in ties.get(first.parameter, ()) if name != first.parameter]
    return Row(
        stored=pattern,
        parameter=next(iter(places([first.parameter]))),
        tensors=sum(_count(group, study) for group in by_writer.values()),
        layers=tuple(layers),
        shape=study.shapes[first.parameter],
        axis_in_memory=first.out_axis,
        out_axis=parts[0].out_axis,
        kind=first.kind,
        gains=tuple(_gain(gain) for gain in first.gains),
        tied_to=tuple(places(others)),
        held=next((said for part in parts if (said := held(part.name))), ""),
    )


def _count(parts: list[StoredWriter], study: Study) -> int:
    """Tensors of one writer: as many as it has experts where they lie one by one (a twin has only a few)."""
    return len(parts) if len(parts) == 1 else study.shapes[parts[0].writer.parameter][0]


def _gain(gain: Gain) -> str:
    name = next(iter(places([gain.parameter]))).rpartition(".")[0].rpartition(".")[2]
    return f"{name}{' + 1' if gain.offset else ''}{', centred' if gain.centred else ''}"


def _held(rows: tuple[Row, ...]) -> str:
    """What is to be said of edited weights, from how they are stored."""
    return next((f"{row.stored} {row.held}" for row in rows if row.held), "")


def _adapter(rows: tuple[Row, ...]) -> str:
    """Why low-rank factors of weight matrices cannot carry the edit, or an empty text where they can."""
    biases = sum(row.tensors for row in rows if row.kind == "bias")
    experts = [row.parameter for row in rows if row.kind == "experts"]
    tied = [row.parameter for row in rows if row.tied_to]
    reasons = [f"{biases} biases have no low-rank part"] if biases else []
    reasons += [f"{experts[0]} stacks experts"] if experts else []
    reasons += [f"{tied[0]} is tied"] if tied else []
    return "; ".join(reasons)
