"""Where hooks go, so that a hooked model is the model whose writers were folded.

Mostly at the output of the module that owns the writer. Where that module is not called (its parent uses the weight
itself) the hook goes to the nearest caller; where a hook would touch more than the writer (the bias of a norm that
other writers pass through), the parameter is replaced for as long as the hooks are there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from abliterate.anatomy.blocks import Blocks, Inputs, first_tensor, forward, hooked, stream_of, with_first, with_stream
from abliterate.anatomy.projection import fold, remove
from abliterate.anatomy.writers import Gain, Writer, aliases

# For the gains behind a writer, the orthonormal directions [k, d] to remove from it: float64, on the CPU.
BasisAt = Callable[[Sequence[Gain]], Tensor]


@dataclass(frozen=True)
class Site:
    """A place at which a hook removes directions from what is written.

    Attributes:
        name: dotted name of a module, whose output or input is edited; or of a parameter, which is replaced.
        place: `output`, `input` (of the first block) or `parameter`.
        gains: what stands between it and the stream.
        layer: index of its block; None outside of all.
        out_axis: of a parameter, the axis along the stream.
    """

    name: str
    place: str
    gains: tuple[Gain, ...]
    layer: int | None
    out_axis: int = -1


def find_sites(model: PreTrainedModel, blocks: Blocks, writers: Sequence[Writer], inputs: Inputs) -> tuple[Site, ...]:
    """One site for each module with writers, and one for each parameter that needs its own."""
    called = _called(model, blocks.width, inputs)
    names = aliases(model)
    crossed = {gain.parameter.rpartition(".")[0] for writer in writers for gain in writer.gains}
    callers: dict[str, tuple[str, Writer]] = {}
    for writer in writers:
        for name in names[writer.parameter]:
            owner = name.rpartition(".")[0]
            if not _is_head(model, owner):
                while owner and owner not in called:
                    owner = owner.rpartition(".")[0]
                callers[name] = owner, writer
    inside = {
        ".".join(parts[:n]) for owner, _ in callers.values() for parts in [owner.split(".")] for n in range(len(parts))
    }
    sites: dict[str, Site] = {}
    for name, (owner, writer) in callers.items():
        at_module = Site(owner, "output", writer.gains, writer.layer)
        # A hook there would touch what other writers have written through it.
        if owner in crossed | inside or sites.get(owner, at_module) != at_module:
            sites[name] = Site(name, "parameter", writer.gains, writer.layer, writer.out_axis)
        else:
            sites[owner] = at_module
    return tuple(sites.values())


@contextmanager
def removing(model: nn.Module, sites: Sequence[Site], basis_at: BasisAt, strength: float) -> Iterator[None]:
    """Remove directions at every site while the context is open; leaving it restores every bit."""
    if strength == 0.0:
        yield
        return
    # Half precision would leave 1 % of the component.
    precision = torch.promote_types(next(p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    home = next(model.parameters()).device
    replaced: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for site in sites:
            basis = basis_at(site.gains)
            if site.place == "parameter":
                weight = model.get_parameter(site.name).detach()
                replaced[site.name] = fold(weight, site.out_axis, basis.to(weight.device), strength)
                continue
            module = model.get_submodule(site.name)
            device = next((parameter.device for parameter in module.parameters()), home)
            rows = basis.to(precision).to(device)  # in this order: mps has no float64
            if site.place == "input":
                handle = module.register_forward_pre_hook(_before(rows, strength), with_kwargs=True)
            else:
                handle = module.register_forward_hook(_after(rows, strength))
            stack.callback(handle.remove)
        stack.enter_context(swapped(model, replaced))
        yield


@contextmanager
def swapped(model: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Put other tensors in the place of parameters, by name, and the same parameters back on leaving."""
    before: list[tuple[nn.Module, str, nn.Parameter | None]] = []
    try:
        for name, tensor in tensors.items():
            owner, _, leaf = name.rpartition(".")
            module = model.get_submodule(owner)
            before.append((module, leaf, module._parameters[leaf]))
            module._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)
        yield
    finally:
        for module, leaf, parameter in before:
            module._parameters[leaf] = parameter


def folded(model: PreTrainedModel, writers: Sequence[Writer], basis_at: BasisAt, strength: float) -> dict[str, Tensor]:
    """Every writer's folded weight, under each of its names but that of the unembedding, which keeps its own."""
    names = aliases(model)
    tensors: dict[str, Tensor] = {}
    for writer in writers:
        weight = model.get_parameter(writer.parameter).detach()
        new = fold(weight, writer.out_axis, basis_at(writer.gains).to(weight.device), strength)
        tensors |= {name: new for name in names[writer.parameter] if not _is_head(model, name.rpartition(".")[0])}
    return tensors


def _after(basis: Tensor, strength: float) -> Callable[..., object]:
    """A hook on a module; the basis is prepared once, so that a pass costs two small kernels a site."""

    def hook(module: nn.Module, args: object, output: object) -> object:
        y = first_tensor(output)
        if y is None:
            return None
        return with_first(output, remove(y, basis.to(y.device), strength))

    return hook


def _before(basis: Tensor, strength: float) -> Callable[..., object]:
    """A hook on the first block, for the sum of all embeddings."""

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        x = stream_of(args, kwargs)
        return with_stream(args, kwargs, remove(x, basis.to(x.device), strength))

    return hook


def _called(model: PreTrainedModel, width: int, inputs: Inputs) -> set[str]:
    """Names of the modules that are called and return `[..., d]`."""
    names = {module: name for name, module in model.named_modules() if name}
    called: set[str] = set()

    def watch(module: nn.Module, args: object, output: object) -> None:
        tensor = first_tensor(output)
        if tensor is not None and tensor.dim() and tensor.shape[-1] == width and tensor.is_floating_point():
            called.add(names[module])

    with hooked((module, watch) for module in names):
        forward(model, inputs)
    every = model.named_modules(remove_duplicate=False)
    return {name for name, module in every if name and names[module] in called}


def _is_head(model: PreTrainedModel, name: str) -> bool:
    head = model.get_output_embeddings()
    return head is not None and model.get_submodule(name) is head
