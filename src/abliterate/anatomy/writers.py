"""Finding every module that writes to the residual stream, by regression of the stream on module outputs.

A block returns its input plus what its writers add. So, over the token positions of one probe, the block's output
is a linear combination of its input and of its modules' outputs, with constant coefficients: 1 for the input, the
residual multiplier (mostly 1) for a writer, 0 for everything else, and nothing left over. One least-squares fit per
block finds the writers whatever their names, and whatever is left over is a write that is not understood: an
error that names the module at fault. The same fit over the input of block 0 finds the embeddings.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from abliterate.anatomy.blocks import (
    Blocks,
    find_blocks,
    first_tensor,
    forward,
    hidden_size,
    hooked,
    probe_ids,
    stream_of,
    with_stream,
)
from abliterate.errors import UnsupportedModel

# The fit runs in float32 (norms upcast to it inside transformers whatever the model's dtype), whose rounding
# leaves about 1e-6 of the update unexplained; a writer that matters explains far more than 1e-3 of it.
UNEXPLAINED = 1e-3
ZERO_COEFFICIENT = 1e-3


@dataclass(frozen=True)
class Writer:
    """A module whose output is added to the residual stream.

    Attributes:
        module: dotted name of the module, whose output is what is added.
        weight: name of its weight, of shape [d, in] (`out_axis` 0) or [in, d] (`out_axis` 1).
        bias: name of its bias [d], or None.
        layer: index of its block, or None for an embedding.
        component: its place in the block (`self_attn.o_proj`), or `embedding`.
        out_axis: the axis of the weight that runs along the stream.
        gain: the constant by which the model multiplies the output before adding it.
        tied_to: the other name of the same weight (the unembedding), or None.
    """

    module: str
    weight: str
    bias: str | None
    layer: int | None
    component: str
    out_axis: int
    gain: float
    tied_to: str | None


@dataclass(frozen=True)
class Anatomy:
    """Where a model's residual stream runs and what writes to it.

    Attributes:
        width: d, the width of the stream.
        blocks: dotted names of the L blocks, in order.
        writers: every writer, embeddings first, then by block.
    """

    width: int
    blocks: tuple[str, ...]
    writers: tuple[Writer, ...]

    @property
    def layers(self) -> int:
        """L, the number of blocks."""
        return len(self.blocks)

    @property
    def tied_head(self) -> Writer | None:
        """The embedding whose weight is also the unembedding, or None."""
        return next((writer for writer in self.writers if writer.tied_to), None)


def dissect(model: PreTrainedModel) -> Anatomy:
    """Find the blocks and every residual writer of a dense decoder.

    Raises:
        UnsupportedModel: something writes to the stream that is not an embedding, a `Linear` or a `Conv1D`,
            or a norm stands between a writer and the stream; the message names the module.
    """
    blocks = find_blocks(model)
    trace = _Trace(model, blocks)
    where = "the input of the first block"
    # This sum was rounded to the model's own dtype: at most half an epsilon of it is out of sight.
    rounding = torch.finfo(model.dtype).eps
    embeddings = _explain(model, trace.embedded, trace.outside, stream=None, where=where, rounding=rounding)
    writers = [_describe(model, name, gain, None, "embedding") for name, gain in embeddings]
    for layer in range(len(blocks)):
        prefix = blocks.path(layer)
        x, y, outputs = _replay(blocks.modules[layer], prefix, *trace.calls[layer])
        for name, gain in _explain(model, y, outputs, stream=x, where=prefix):
            writers.append(_describe(model, name, gain, layer, name.removeprefix(f"{prefix}.")))
    _check_embedding(model, writers)
    return Anatomy(hidden_size(model), tuple(blocks.path(n) for n in range(len(blocks))), tuple(writers))


class _Trace:
    """One forward pass: each block's call, and what every module outside the blocks returned before the first."""

    def __init__(self, model: PreTrainedModel, blocks: Blocks) -> None:
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.outside: dict[str, Tensor] = {}
        ids = probe_ids(model)
        shape = (*ids.shape, hidden_size(model))
        previous: list[Tensor] = []

        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = stream_of(args, kwargs)
            if previous and not torch.equal(x, previous[-1]):
                raise UnsupportedModel(
                    f"something changes the residual stream before {blocks.path(len(self.calls))}",
                    "models that write to the stream between their blocks are not supported yet",
                )
            self.calls.append(with_stream(args, kwargs, x.clone()))  # a block may add in place

        def leave(module: nn.Module, args: object, output: object) -> None:
            tensor = first_tensor(output)
            if tensor is not None:
                previous[:] = [tensor.clone()]

        inside = {module for block in blocks.modules for module in block.modules()}
        outer = {
            module: name
            for name, module in model.named_modules()
            if module not in inside and any(True for _ in module.parameters(recurse=False))
        }

        def keep(module: nn.Module, args: object, output: object) -> None:
            tensor = first_tensor(output)
            if tensor is not None and not self.calls and tensor.shape[-1] == shape[-1]:
                self.outside[outer[module]] = _as_stream(tensor, shape)

        handles = [block.register_forward_pre_hook(enter, with_kwargs=True) for block in blocks.modules]
        try:
            with hooked([(block, leave) for block in blocks.modules]), hooked((m, keep) for m in outer):
                forward(model, ids)
        finally:
            for handle in handles:
                handle.remove()
        self.embedded = _rows(stream_of(*self.calls[0]))


def _replay(
    block: nn.Module, prefix: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Run a float32 copy of one block on its recorded arguments.

    Returns:
        The stream before and after, and the output of every module that owns parameters and returns `[..., d]`
        (rows of tokens, float64). A copy, because half precision would hide a small writer in rounding.
    """
    twin = copy.deepcopy(block).float() if _dtype(block) not in (torch.float32, torch.float64) else block
    args, kwargs = _as_float(args), _as_float(kwargs)
    x = stream_of(args, kwargs)
    outputs: dict[str, Tensor] = {}
    names = {module: f"{prefix}.{name}" for name, module in twin.named_modules() if name}

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        tensor = first_tensor(output)
        if tensor is None or tensor.shape[-1] != x.shape[-1] or tensor.numel() != x.numel():
            return
        if names[module] in outputs:
            raise UnsupportedModel(
                f"{names[module]} runs more than once in its block",
                "models that share a module within a block are not supported yet",
            )
        outputs[names[module]] = _rows(tensor)

    own = [module for module in names if any(True for _ in module.parameters(recurse=False))]
    before = _rows(x)  # copied now: a block may add in place
    with hooked((module, keep) for module in own), torch.inference_mode():
        y = first_tensor(twin(*args, **kwargs))
    if y is None:
        raise UnsupportedModel(f"{prefix} returns no tensor", "this architecture is not supported yet")
    return before, _rows(y), outputs


def _explain(
    model: PreTrainedModel,
    y: Tensor,
    outputs: dict[str, Tensor],
    *,
    stream: Tensor | None,
    where: str,
    rounding: float = 0.0,
) -> list[tuple[str, float]]:
    """Write `y` [n, d] as the stream plus a combination of module outputs; return the writers and their gains."""
    names = list(outputs)
    columns = [outputs[name] for name in names]
    target = y
    if stream is not None:
        columns, target = [stream, *columns], y - stream
    coefficients, left = _least_squares(columns, target)
    if stream is not None:
        kept, coefficients = coefficients[0], coefficients[1:]
        if abs(kept) > ZERO_COEFFICIENT:
            raise UnsupportedModel(
                f"{where} multiplies the residual stream by {1 + kept:.4g} instead of adding to it",
                "models that scale or normalise the stream itself are not supported",
            )
    if left > max(UNEXPLAINED, rounding) * target.norm():
        raise UnsupportedModel(
            f"{where} changes the residual stream by more than its modules' outputs explain"
            f" ({100 * left / target.norm():.1f} % is left over; its modules: {_kinds(model, where)})",
            "this way of writing to the stream (experts, gates, recurrences) is not supported yet",
        )
    return [
        (name, float(gain))
        for name, gain in zip(names, coefficients.tolist(), strict=True)
        if abs(gain) > ZERO_COEFFICIENT
    ]


def _least_squares(columns: list[Tensor], target: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients [k] of `target` on the columns, and the norm of what they leave, in float64."""
    if not columns:
        return torch.zeros(0, dtype=torch.float64), target.norm()
    matrix = torch.stack([column.flatten() for column in columns], dim=1)
    scale = matrix.norm(dim=0).clamp_min(1e-30)
    q, r = torch.linalg.qr(matrix / scale)
    solution = torch.linalg.lstsq(r, (q.T @ target.flatten()).unsqueeze(1)).solution.squeeze(1) / scale
    return solution, (target.flatten() - matrix @ solution).norm()


def _describe(model: PreTrainedModel, name: str, gain: float, layer: int | None, component: str) -> Writer:
    module = model.get_submodule(name)
    kinds: dict[type[nn.Module], int] = {nn.Linear: 0, Conv1D: 1, nn.Embedding: 1}
    axis = next((axis for kind, axis in kinds.items() if isinstance(module, kind)), None)
    weight = getattr(module, "weight", None)
    if axis is None or not isinstance(weight, Tensor):
        raise UnsupportedModel(
            f"{name} ({type(module).__name__}) writes to the residual stream",
            "only Linear, Conv1D and Embedding writers can be edited exactly so far; where this is a norm after"
            " a sublayer, support is planned",
        )
    if not weight.is_floating_point() or weight.dim() != 2 or weight.shape[axis] != hidden_size(model):
        raise UnsupportedModel(
            f"the weight of {name} is stored as {tuple(weight.shape)} {weight.dtype}, not as a plain matrix",
            "load an unquantised copy of the model",
        )
    bias = f"{name}.bias" if getattr(module, "bias", None) is not None else None
    return Writer(name, f"{name}.weight", bias, layer, component, axis, gain, _tied_to(model, f"{name}.weight"))


def _tied_to(model: PreTrainedModel, name: str) -> str | None:
    weight = model.get_parameter(name)
    others = [
        other
        for other, parameter in model.named_parameters(remove_duplicate=False)
        if parameter is weight and other != name
    ]
    head = model.get_output_embeddings()
    for other in others:
        if head is None or model.get_submodule(other.rpartition(".")[0]) is not head:
            raise UnsupportedModel(
                f"{name} is the same tensor as {other}, which is not the unembedding",
                "models that share weights between writers and readers are not supported yet",
            )
    return others[0] if others else None


def _check_embedding(model: PreTrainedModel, writers: list[Writer]) -> None:
    """Refuse a model without an embedding that writes: nothing would remove the direction from its tokens."""
    if not any(writer.layer is None for writer in writers):
        raise UnsupportedModel(
            f"no embedding of {type(model).__name__} was seen to write to the residual stream",
            "this architecture is not supported yet",
        )


def _kinds(model: PreTrainedModel, where: str) -> str:
    """The parts of a block by name and class, for an error message."""
    try:
        parts = model.get_submodule(where).named_children()
    except AttributeError:
        parts = model.named_children()
    return ", ".join(f"{name} ({type(part).__name__})" for name, part in parts)


def _rows(tensor: Tensor) -> Tensor:
    """A `[..., d]` tensor as float64 rows [n, d] on the CPU, copied."""
    return tensor.detach().reshape(-1, tensor.shape[-1]).to("cpu", torch.float64, copy=True)


def _as_stream(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """An embedding's output as rows; position embeddings [tokens, d] or [1, tokens, d] are repeated per sequence."""
    return _rows(tensor.expand(shape) if tensor.shape[:-1] != shape[:-1] else tensor)


def _dtype(module: nn.Module) -> torch.dtype:
    return next(parameter.dtype for parameter in module.parameters() if parameter.is_floating_point())


def _as_float(value: Any) -> Any:  # noqa: ANN401 - a tree of a block's arguments
    """The same arguments with half-precision tensors in float32."""
    change: Callable[[Any], Any] = _as_float
    if isinstance(value, Tensor):
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
    if isinstance(value, tuple):
        return tuple(change(item) for item in value)
    if isinstance(value, dict):
        return {key: change(item) for key, item in value.items()}
    return value
