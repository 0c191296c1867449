"""Where hooks go in a model whose weights cannot carry the edit, because what it adds or keeps is no fixed map of them.

Three kinds of places together leave nothing of a direction in the stream, whatever lies before them: the input of the
first block; the output of every module that is added to the stream; and the output of every norm whose result goes on
as the stream (post-norm models) or is added to it.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from abliterate.anatomy.blocks import Blocks, Inputs, first_tensor, hooked, pre_hooked, stream_of
from abliterate.anatomy.direct import DirectPath
from abliterate.anatomy.sites import Site
from abliterate.anatomy.stream import Stream, came_from, is_stream, origin


def natural_sites(model: PreTrainedModel, blocks: Blocks, inputs: Inputs) -> tuple[tuple[Site, ...], tuple[str, ...]]:
    """Sites for hooks alone, and the norms whose outputs are the stream.

    Returns:
        No sites at all where something is added to the stream that no module returned.
    """
    renewed: set[str] = set()
    while True:
        found = _pass(model, blocks, inputs, renewed, direct=True)
        if found <= renewed:
            break
        renewed |= found
    added: list[str | None] = []
    _pass(model, blocks, inputs, renewed, direct=False, added=added)
    if None in added:
        return (), tuple(sorted(renewed))
    names = [name for name in dict.fromkeys([*added, *sorted(renewed)]) if name is not None]
    first = Site(blocks.names[0], "input", (), None)
    return (first, *(Site(name, "output", (), blocks.layer_of(name)) for name in names)), tuple(sorted(renewed))


def _pass(
    model: PreTrainedModel,
    blocks: Blocks,
    inputs: Inputs,
    renewed: set[str],
    *,
    direct: bool,
    added: list[str | None] | None = None,
) -> set[str]:
    """Follow the stream through one pass.

    Returns:
        With `direct`, the modules that read the stream and whose output is on the direct path all the same.
    """
    reads: list[Tensor] = []
    candidates: list[tuple[str, Tensor]] = []
    stream = Stream(blocks.widths, reads.append, None if added is None else lambda x: added.append(origin(x)))
    inside = {name: module for name, module in model.named_modules() if blocks.layer_of(name) is not None}
    names = {module: name for name, module in inside.items()}

    def enter(module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        stream.mark(stream_of(args, kwargs))

    def leave(module: nn.Module, args: object, output: object) -> None:
        x = first_tensor(output)
        if x is not None:
            reads.append(x)
            stream.mark(x)

    def watch(module: nn.Module, args: tuple[object, ...], output: object) -> None:
        x = first_tensor(output)
        if x is None or not x.dim() or x.shape[-1] != blocks.width or is_stream(x):
            return
        parts = any(True for _ in module.children())
        if parts or any(True for _ in module.parameters(recurse=False)):
            came_from(x, names[module])  # a dropout only passes on what another module wrote
        if names[module] in renewed:
            stream.mark(x)
        elif args and is_stream(args[0]) and x.requires_grad and not parts:
            candidates.append((names[module], x))

    with (
        pre_hooked((block, enter) for block in blocks.modules),
        hooked((module, watch) for module in inside.values()),
        hooked((block, leave) for block in blocks.modules),
        torch.enable_grad() if direct else torch.no_grad(),
        DirectPath(),
        stream,
    ):
        model(**inputs, use_cache=False)
    if not direct:
        return set()
    loss = torch.stack([x.square().sum() for x in reads if x.requires_grad]).sum()
    gradients = torch.autograd.grad(loss, [x for _, x in candidates], allow_unused=True) if candidates else ()
    return {
        name
        for (name, _), gradient in zip(candidates, gradients, strict=True)
        if gradient is not None and float(gradient.abs().max()) > 0
    }
