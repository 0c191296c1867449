"""Edits as hooks at inference, for the length of a `with` block."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from abliterate.anatomy.blocks import pre_hooked, stream_of, with_stream
from abliterate.anatomy.dissect import basis_at
from abliterate.anatomy.load import Subject
from abliterate.anatomy.sites import removing
from abliterate.edits.edit import Add, Edit


@contextmanager
def edited(subject: Subject, edit: Edit) -> Iterator[Subject]:
    """Apply an edit to a model while the context is open; leaving restores every bit.

    An `Ablate` hooks what is written to the stream, wherever the model's anatomy says, which equals the baked weights
    for any strength. An `Add` hooks the input of one block.

    Raises:
        DirectionMismatch: the direction was made for another model.
        UnsupportedModel: the model's anatomy is not understood.
    """
    check_fits(subject, edit)
    model, anatomy = subject.model, subject.anatomy
    if isinstance(edit, Add):
        block = model.get_submodule(anatomy.blocks[edit.block])
        with pre_hooked([(block, _before(edit))]):
            yield subject
    else:
        with removing(model, anatomy.sites, basis_at(model, edit.direction.basis), edit.strength):
            yield subject


def check_fits(subject: Subject, edit: Edit) -> None:
    """Refuse an edit whose direction was made for another model.

    Raises:
        DirectionMismatch: hidden size, layer count or config hash differ.
    """
    anatomy = subject.anatomy
    edit.direction.check_fits(
        config_hash=subject.config_hash, width=anatomy.width, layers=anatomy.layers, model=subject.source
    )


def _before(edit: Add) -> Callable[..., object]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        return with_stream(args, kwargs, edit.apply(stream_of(args, kwargs)))

    return hook
