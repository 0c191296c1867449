"""Finding the residual blocks of a decoder by watching one forward pass, without a list of model names.

Notation (methods.md 1): a model has L blocks over a residual stream of width d; block l reads the stream
`[batch, tokens, d]` and returns it with its own writes added. Some models carry several copies of the stream,
`[batch, tokens, copies, d]`; what is said of the last axis holds for each of them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from abliterate.errors import UnsupportedModel

Inputs = Mapping[str, Tensor]
Hook = Callable[..., object]


def stream_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The residual stream among a block's arguments, passed by position or as `hidden_states`.

    Raises:
        UnsupportedModel: the block is called with neither.
    """
    value = args[0] if args else kwargs.get("hidden_states")
    if not isinstance(value, Tensor):
        raise UnsupportedModel(
            "a block does not receive its residual stream as its first argument or as `hidden_states`",
            "this architecture is not supported yet; please report its name",
        )
    return value


def with_stream(args: tuple[Any, ...], kwargs: dict[str, Any], x: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A block's arguments with the residual stream replaced by `x`."""
    return ((x, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": x})


def first_tensor(output: object) -> Tensor | None:
    """The tensor that a module returns, or the first of the tuple it returns; None when there is none."""
    if isinstance(output, (tuple, list)) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


def with_first(output: object, x: Tensor) -> object:
    """What a module returned, with its first tensor replaced by `x`."""
    if isinstance(output, (tuple, list)):
        return type(output)((x, *output[1:]))
    return x


@dataclass(frozen=True)
class Blocks:
    """The residual blocks, in order.

    Attributes:
        names: dotted name of each of the L blocks, for example `model.layers.0`.
        modules: the blocks.
        width: d, the width of the stream that they return.
    """

    names: tuple[str, ...]
    modules: tuple[nn.Module, ...]
    width: int

    def __len__(self) -> int:
        return len(self.modules)

    def layer_of(self, name: str) -> int | None:
        """The block that a module or parameter lies in; None outside of all."""
        return next((layer for layer, block in enumerate(self.names) if name.startswith(f"{block}.")), None)


def find_blocks(model: PreTrainedModel, inputs: Inputs) -> Blocks:
    """Find the list of modules whose executed members all return `[..., d]`; the one with most parameters wins.

    Members that do not run on text alone (the cross-attention to images in Mllama) are no blocks.

    Raises:
        UnsupportedModel: no such list, or its members are executed out of order or more than once.
    """
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    executed: list[nn.Module] = []
    widths: dict[nn.Module, int | None] = {}

    def watch(module: nn.Module, args: object, output: object) -> None:
        tensor = first_tensor(output)
        stream = tensor is not None and tensor.dim() >= 3 and tensor.is_floating_point()
        executed.append(module)
        widths[module] = tensor.shape[-1] if tensor is not None and stream else None

    with hooked((child, watch) for members in lists.values() for child in members):
        forward(model, inputs)
    candidates: dict[str, dict[str, nn.Module]] = {}
    for name, members in lists.items():
        running = {f"{name}.{n}": member for n, member in enumerate(members) if member in widths}
        if None not in (seen := {widths[member] for member in running.values()}) and len(seen) == 1:
            candidates[name] = running
    if not candidates:
        raise UnsupportedModel(
            f"{type(model).__name__} has no list of blocks that pass on a residual stream",
            "only decoder models built of residual blocks are supported",
        )
    name = max(candidates, key=lambda n: sum(p.numel() for m in candidates[n].values() for p in m.parameters()))
    modules = tuple(candidates[name].values())
    if [module for module in executed if module in set(modules)] != list(modules):
        raise UnsupportedModel(
            f"the blocks in {name} are not executed once each and in order",
            "models that share or skip blocks are not supported yet",
        )
    return Blocks(tuple(candidates[name]), modules, widths[modules[0]] or 0)


@contextmanager
def hooked(pairs: Iterable[tuple[nn.Module, Hook]]) -> Iterator[None]:
    """Register `(module, forward hook)` pairs for the duration of the context."""
    with ExitStack() as stack:
        for module, hook in pairs:
            stack.callback(module.register_forward_hook(hook).remove)
        yield


@contextmanager
def pre_hooked(pairs: Iterable[tuple[nn.Module, Hook]]) -> Iterator[None]:
    """Register `(module, forward pre-hook with keywords)` pairs for the duration of the context."""
    with ExitStack() as stack:
        for module, hook in pairs:
            stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield


def forward(model: PreTrainedModel, inputs: Inputs) -> Tensor:
    """Logits `[batch, tokens, vocabulary]` of a plain forward pass, without cache or gradient."""
    with torch.inference_mode():
        logits: Tensor = model(**inputs, use_cache=False).logits
    return logits


def modules_named(model: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """The modules of those dotted names."""
    return [model.get_submodule(name) for name in names]
