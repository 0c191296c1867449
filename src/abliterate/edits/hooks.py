"""Edits as hooks at inference, for the length of a `with` block."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from abliterate.anatomy.blocks import first_tensor, stream_of, with_stream
from abliterate.anatomy.load import Subject
from abliterate.edits.edit import Ablate, Add, Edit


@contextmanager
def edited(subject: Subject, edit: Edit) -> Iterator[Subject]:
    """Apply an edit to a model while the context is open; weights are never touched, so leaving restores every bit.

    An `Ablate` hooks the output of every residual writer, which equals the baked weights for any strength. An `Add`
    hooks the input of one block.

    Raises:
        DirectionMismatch: the direction was made for another model.
        UnsupportedModel: the model's writers cannot be found.
    """
    check_fits(subject, edit)
    with ExitStack() as stack:
        for handle in _place(subject, edit):
            stack.callback(handle.remove)
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


def _place(subject: Subject, edit: Edit) -> list[Any]:
    model, anatomy = subject.model, subject.anatomy
    if isinstance(edit, Add):
        block = model.get_submodule(anatomy.blocks[edit.block])
        return [block.register_forward_pre_hook(_before(edit), with_kwargs=True)]
    hook = _after(edit, edit.basis_for(next(model.parameters())))
    return [model.get_submodule(writer.module).register_forward_hook(hook) for writer in anatomy.writers]


def _after(edit: Ablate, basis: Tensor) -> Callable[..., object]:
    """A hook on a writer; the basis is prepared once, so that a pass costs two small kernels a writer."""

    def hook(module: nn.Module, args: object, output: object) -> object:
        y = first_tensor(output)
        if y is None:
            return None
        z = edit.apply(y, basis.to(y.device))
        return (z, *output[1:]) if isinstance(output, tuple) else z

    return hook


def _before(edit: Add) -> Callable[..., object]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        return with_stream(args, kwargs, edit.apply(stream_of(args, kwargs)))

    return hook
