"""Which tensors of a checkpoint hold which writers: names, and the axis that runs along the stream.

Checkpoints differ from the model in memory: names are older or shorter, experts lie one by one, tensors are transposed.
transformers knows how to convert, in both directions, but not what becomes of an axis. So a twin's writers are filled
with numbers that tell their own place (which writer, and where along the stream) and sent through the conversion to the
disk: what arrives tells where each writer went. The names of a real checkpoint are then taken to memory by the
conversion in the other direction, where the same writers stand.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    rename_source_key,
    revert_weight_conversion,
)

from abliterate.anatomy.writers import Writer, aliases
from abliterate.errors import UnsupportedModel

ELSEWHERE = -1.0  # in the place of everything that is no writer


@dataclass(frozen=True)
class StoredWriter:
    """A tensor on disk that is a writer, or a part of one.

    Attributes:
        name: on disk.
        writer: what it is in memory.
        out_axis: its axis along the stream, on disk.
    """

    name: str
    writer: Writer
    out_axis: int


@dataclass(frozen=True)
class Tie:
    """Names of one and the same parameter.

    Attributes:
        names: in memory, that of `named_parameters` first.
        head: the one among them that is the weight of the unembedding, or None.
    """

    names: tuple[str, ...]
    head: str | None


class Layout:
    """The conversion between a checkpoint's names and the model's, for the writers of one architecture.

    Args:
        twin: a model of the architecture, of any size, with the real number of blocks.
        writers: its writers.
        shapes: of the real model's parameters, by which `find` knows whether a checkpoint holds all of a writer.
    """

    def __init__(
        self, twin: PreTrainedModel, writers: tuple[Writer, ...], shapes: Mapping[str, tuple[int, ...]] | None = None
    ) -> None:
        self.twin = twin
        self.shapes = shapes or {name: tuple(value.shape) for name, value in twin.state_dict().items()}
        self.writers = {writer.parameter: writer for writer in writers}
        self.first_name = {name: group[0] for group in aliases(twin).values() for name in group}
        self.state: dict[str, Tensor] = twin.state_dict()

    def memory_name(self, stored: str) -> str:
        """The parameter that a tensor on disk becomes, or a part of it; a name of no parameter where it is ignored."""
        renamings, converters = self._conversions
        name, _ = rename_source_key(stored, renamings, converters, self.twin.base_model_prefix, self.state)
        return name

    def find(self, stored: Mapping[str, tuple[int, ...]]) -> list[StoredWriter]:
        """The tensors of a checkpoint that write, given the name and shape of each.

        Raises:
            UnsupportedModel: a writer is not among them, or only together with what is no writer.
        """
        found = self.parts(stored)
        held: Counter[str] = Counter()
        for part in found:
            held[part.writer.parameter] += prod(stored[part.name])
        for parameter in self.writers:
            if held[parameter] < prod(self.shapes[parameter]):
                lacks = "has no tensor for" if not held[parameter] else "holds only a part of"
                raise UnsupportedModel(
                    f"the checkpoint {lacks} {parameter}, which writes to the stream",
                    "check that it is complete and of the architecture that its config.json names",
                )
        return found

    def parts(self, stored: Mapping[str, tuple[int, ...]]) -> list[StoredWriter]:
        """As `find`, whether or not all is there."""
        found = []
        for name, shape in stored.items():
            in_memory = self.memory_name(name)
            parameter = self.first_name.get(in_memory)
            if parameter in self.writers and not self._is_head(in_memory):
                found.append(StoredWriter(name, self.writers[parameter], self._axis(name, parameter, len(shape))))
        return found

    def ties(self) -> list[Tie]:
        """Every parameter that has several names."""
        groups = [group for group in aliases(self.twin).values() if len(group) > 1]
        return [Tie(group, next((name for name in group if self._is_head(name)), None)) for group in groups]

    @property
    def tied_head(self) -> bool:
        """Whether an embedding that writes is the unembedding too."""
        return any(tie.head and tie.names[0] in self.writers for tie in self.ties())

    def as_saved(self) -> list[StoredWriter]:
        """The tensors that write, named as transformers would save the twin; fewer experts than the real model's.

        Raises:
            UnsupportedModel: a tensor holds a writer together with what is none.
        """
        return self.parts({name: tuple(marks.shape) for name, marks in self._saved.items()})

    def disk_name(self, name: str) -> str:
        """A name on disk for a parameter that a checkpoint left out because it is tied to another.

        Raises:
            UnsupportedModel: transformers would not find it under any name.
        """
        for candidate in (*revert_weight_conversion(self.twin, {name: self.state[name]}), name):
            if self.memory_name(candidate) == name:
                return str(candidate)
        raise UnsupportedModel(f"{name} has no name on disk", "this architecture is not supported yet")

    def _is_head(self, name: str) -> bool:
        head = self.twin.get_output_embeddings()
        return head is not None and self.twin.get_submodule(name.rpartition(".")[0]) is head

    def _axis(self, name: str, parameter: str, rank: int) -> int:
        """The axis on disk: that of the twin's tensor for the same parameter with as many axes."""
        for saved, (owner, axis) in self._placed.items():
            if owner == parameter and self._saved[saved].dim() == rank:
                if axis < 0:
                    raise UnsupportedModel(
                        f"{name} holds {parameter} together with what does not write, or in another order",
                        "this layout is not supported yet",
                    )
                return axis
        writer = self.writers[parameter]
        if rank == self.state[parameter].dim():
            return writer.out_axis
        raise UnsupportedModel(f"{name} has {rank} axes, unlike any known form of {parameter}", "please report it")

    @cached_property
    def _conversions(self) -> tuple[list[WeightRenaming], list[WeightConverter]]:
        mapping = get_model_conversion_mapping(self.twin)
        return (
            [entry for entry in mapping if isinstance(entry, WeightRenaming)],
            [entry for entry in mapping if isinstance(entry, WeightConverter)],
        )

    @cached_property
    def _saved(self) -> dict[str, Tensor]:
        """The twin as transformers would save it, but with marks in the place of numbers."""
        order = list(self.writers)
        state = {}
        for name, value in self.state.items():
            parameter = self.first_name.get(name, name)
            marks = torch.full(value.shape, ELSEWHERE, dtype=torch.float64)
            if parameter in self.writers:
                axis = self.writers[parameter].out_axis
                width = value.shape[axis]
                ordinals = torch.arange(width, dtype=torch.float64) + order.index(parameter) * width
                marks = ordinals.view([width if n == axis else 1 for n in range(value.dim())]).expand_as(marks).clone()
            state[name] = marks
        saved: dict[str, Tensor] = revert_weight_conversion(self.twin, state)
        return saved

    @cached_property
    def _placed(self) -> dict[str, tuple[str, int]]:
        """For each of the saved tensors with a writer in it: (parameter, axis), axis -1 where it is not alone."""
        return {
            name: _read_marks(marks, list(self.writers), self.writers, self.state)
            for name, marks in self._saved.items()
            if not (marks == ELSEWHERE).all()
        }


def _read_marks(
    marks: Tensor, order: list[str], writers: Mapping[str, Writer], state: Mapping[str, Tensor]
) -> tuple[str, int]:
    """Which writer a marked tensor is, and along which axis its places run in order; -1 where they do not."""
    width = next(state[name].shape[writers[name].out_axis] for name in order)
    first = int(marks.flatten()[0])
    parameter = order[max(first, 0) // width] if first >= 0 else order[int(marks.max()) // width]
    start = order.index(parameter) * width
    for axis, size in enumerate(marks.shape):
        if size == width:
            ordinals = torch.arange(width, dtype=marks.dtype) + start
            if torch.equal(
                marks, ordinals.view([size if n == axis else 1 for n in range(marks.dim())]).expand_as(marks)
            ):
                return parameter, axis
    return parameter, -1
