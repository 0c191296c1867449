"""Finding every parameter that writes to the residual stream, by the gradient of the direct path.

Along the direct path (direct.py) the gradient of sum_t c_t <r, x_t>, with x_t the stream wherever it is read and c_t
random numbers, has one shape at every weight that writes: along the axis of its outputs it is u v^T, of rank one,
whatever the tokens. At a weight that only reads it is nothing, or of full rank. So two backward passes over a few
random tokens find all writers, the axis of their outputs, and the direction u to remove from each: r itself, or M^T r
where norms M stand between the writer and the stream. Nothing is told by name: experts that are fused, biases,
embeddings of positions and projections of recurrent layers are all alike.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from abliterate.anatomy.blocks import Blocks, first_tensor, hooked, pre_hooked, stream_of
from abliterate.anatomy.direct import DirectPath
from abliterate.anatomy.stream import Stream
from abliterate.anatomy.twin import twin_inputs

# Second singular value over the first. Of all parameters of 189 architectures (docs/anatomy.png) those that write have
# at most 6e-7, the rounding of float32, and no other has less than 4e-4.
RANK_ONE = 1e-5
SAME_DIRECTION = 1e-5  # 1 - |cosine|; half precision of float32 squared


@dataclass(frozen=True)
class Gain:
    """A norm or a scale between a writer and the stream, as a map y -> (offset + weight) * y, centred first or not.

    Attributes:
        parameter: name of the weight [d].
        offset: 1 where the model adds one to it (Gemma), else 0.
        centred: whether the mean over d is subtracted first, as LayerNorm does.
    """

    parameter: str
    offset: float
    centred: bool

    def diagonal(self, weight: Tensor) -> Tensor:
        """Offset + weight [d], in float64."""
        return weight.detach().double() + self.offset


@dataclass(frozen=True)
class Writer:
    """A parameter whose products are added to the residual stream.

    Attributes:
        parameter: its name in the model.
        out_axis: the axis that runs along the stream.
        layer: index of its block; None outside of all, as embeddings are.
        gains: what stands between it and the stream, from the stream back to the writer.
        kind: `matrix`, `embedding`, `experts` (three axes), or `bias` (one axis).
    """

    parameter: str
    out_axis: int
    layer: int | None
    gains: tuple[Gain, ...]
    kind: str


@dataclass(frozen=True)
class Finding:
    """What the gradients tell.

    Attributes:
        writers: every parameter that writes one direction of its outputs, embeddings first, then by block.
        unclear: parameters on the direct path whose outputs reach the stream in no single direction.
        carried: for each block, whether it passes the stream on as it is, up to a factor per token.
        idle: parameters that took part in no probe, such as experts that no token chose.
    """

    writers: tuple[Writer, ...]
    unclear: tuple[str, ...]
    carried: tuple[bool, ...]
    idle: tuple[str, ...]


def find_writers(model: PreTrainedModel, blocks: Blocks, *, probes: int = 2) -> Finding:
    """Find every parameter that writes to the stream between the token ids and the output of the last block."""
    generator = torch.Generator().manual_seed(0)
    r = torch.randn(blocks.width, generator=generator)
    r = (r / r.norm()).to(model.device)
    runs = [probe(model, blocks, r, seed) for seed in range(1, probes + 1)]
    gradients = {
        name: [run.gradients[name] for run in runs if name in run.gradients] for name, _ in model.named_parameters()
    }
    gains = _GainTable(model, blocks, r)
    writers, unclear = [], []
    for name, found in gradients.items():
        axes = list(_rank_one_axes(found, blocks.width))
        if not axes:
            unclear += [name] if any(float(g.abs().max()) > 0 for g in found) else []
            continue
        axis, u = axes[0]
        behind = gains.between(name, u) if len(axes) == 1 else None
        if behind is None:
            unclear.append(name)
            continue
        writers.append(Writer(name, axis, blocks.layer_of(name), behind, _kind(model, name)))
    known = {writer.parameter for writer in writers} | set(unclear)
    idle = tuple(name for name, found in gradients.items() if name not in known and not found)
    writers.sort(key=lambda writer: -1 if writer.layer is None else writer.layer)
    carried = tuple(all(run.carried[layer] for run in runs) for layer in range(len(blocks)))
    return Finding(tuple(writers), tuple(unclear), carried, idle)


@dataclass(frozen=True)
class Probe:
    """What one pass along the direct path tells.

    Attributes:
        gradients: of every parameter that is on the path, by name.
        carried: for each block, whether the gradient at its input lies along r.
    """

    gradients: dict[str, Tensor]
    carried: tuple[bool, ...]


def probe(model: PreTrainedModel, blocks: Blocks, r: Tensor, seed: int) -> Probe:
    """One forward and backward pass along the direct path, from everything that reads the stream."""
    parameters = {name: p for name, p in model.named_parameters() if p.is_floating_point()}
    wanted = {name: p.requires_grad for name, p in parameters.items()}
    inputs: list[tuple[int, Tensor]] = []
    reads: list[Tensor] = []
    stream = Stream(blocks.widths, reads.append)
    numbers = {module: layer for layer, module in enumerate(blocks.modules)}

    def enter(module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        x = stream_of(args, kwargs)
        inputs.append((numbers[module], x))
        stream.mark(x)

    def leave(module: nn.Module, args: object, output: object) -> None:
        x = first_tensor(output)
        if x is not None:
            reads.append(x)
            stream.mark(x)

    try:
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        with (
            pre_hooked((block, enter) for block in blocks.modules),
            hooked((block, leave) for block in blocks.modules),
            torch.enable_grad(),
            DirectPath(),
            stream,
        ):
            model(**twin_inputs(model, seed=seed), use_cache=False)
        generator = torch.Generator().manual_seed(seed)
        loss = torch.stack([_projected(x, r, generator) for x in reads if x.requires_grad]).sum()
        sources = [x for _, x in inputs if x.requires_grad]
        values = torch.autograd.grad(loss, [*parameters.values(), *sources], allow_unused=True)
    finally:
        for name, parameter in parameters.items():
            parameter.requires_grad_(wanted[name])
    gradients = {name: g for name, g in zip(parameters, values, strict=False) if g is not None}
    at_inputs = {id(x): g for x, g in zip(sources, values[len(parameters) :], strict=True)}
    carried = {layer: _is_along(at_inputs.get(id(x)), r) for layer, x in inputs}
    return Probe(gradients, tuple(carried.get(layer, False) for layer in range(len(blocks))))


def _projected(x: Tensor, r: Tensor, generator: torch.Generator) -> Tensor:
    """sum_t c_t <r, x_t> with random c."""
    rows = x.reshape(-1, len(r))
    c = torch.randn(len(rows), generator=generator).to(x)
    return ((rows @ r.to(x.dtype)) * c).sum()


def _is_along(gradient: Tensor | None, r: Tensor) -> bool:
    """Whether every row of a gradient [..., d] is a multiple of r."""
    if gradient is None:
        return False
    rows = gradient.reshape(-1, len(r))
    rest = rows - (rows @ r).unsqueeze(-1) * r
    return float(rest.norm()) <= 1e-4 * float(rows.norm())


def _rank_one_axes(gradients: Sequence[Tensor], width: int) -> Iterator[tuple[int, Tensor]]:
    """The axes along which all gradients together are u v^T, each with its unit vector u [d]."""
    if not gradients:
        return
    for axis, size in enumerate(gradients[0].shape):
        if size != width:
            continue
        rows = torch.cat([g.movedim(axis, 0).reshape(size, -1) for g in gradients], dim=1).double()
        if not float(rows.norm()) > 0:
            continue
        values, vectors = torch.linalg.eigh(rows @ rows.T)
        if float(values[-2].clamp_min(0)) <= RANK_ONE**2 * float(values[-1]):
            yield axis, vectors[:, -1]


class _GainTable:
    """Which gains turn r into the direction that was found at a writer."""

    def __init__(self, model: PreTrainedModel, blocks: Blocks, r: Tensor) -> None:
        self.r = r.double()
        self.blocks = blocks
        self.diagonals: dict[int | None, list[tuple[Gain, Tensor]]] = {}
        for name, parameter in model.named_parameters():
            if parameter.shape == (blocks.width,):
                layer = blocks.layer_of(name)
                self.diagonals.setdefault(layer, []).extend(
                    (gain, gain.diagonal(parameter))
                    for gain in (Gain(name, offset, centred) for offset in (0.0, 1.0) for centred in (False, True))
                )

    def between(self, name: str, u: Tensor) -> tuple[Gain, ...] | None:
        """The gains between a writer and the stream, () for none; None when no one or two of them explain u."""
        if _parallel(self.r, u):
            return ()
        near = self.diagonals.get(self.blocks.layer_of(name), [])
        for gain, diagonal in near:
            if _parallel(_through(self.r, gain, diagonal), u):
                return (gain,)
        for outer, outer_diagonal in near:
            middle = _through(self.r, outer, outer_diagonal)
            for inner, inner_diagonal in near:
                if inner.parameter != outer.parameter and _parallel(_through(middle, inner, inner_diagonal), u):
                    return outer, inner
        return None


def _through(r: Tensor, gain: Gain, diagonal: Tensor) -> Tensor:
    scaled = diagonal * r
    return scaled - scaled.mean() if gain.centred else scaled


def _parallel(a: Tensor, b: Tensor) -> bool:
    return 1 - abs(float(torch.nn.functional.cosine_similarity(a, b, dim=0))) < SAME_DIRECTION


def _kind(model: PreTrainedModel, name: str) -> str:
    parameter = model.get_parameter(name)
    if parameter.dim() == 1:
        return "bias"
    if parameter.dim() > 2:
        return "experts"
    owner = model.get_submodule(name.rpartition(".")[0])
    return "embedding" if isinstance(owner, nn.Embedding) else "matrix"


def aliases(model: nn.Module) -> Mapping[str, tuple[str, ...]]:
    """Every parameter's names, itself first, by the name that `named_parameters` gives it."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {group[0]: tuple(group) for group in names.values()}
