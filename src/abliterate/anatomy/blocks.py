"""Finding the residual blocks of a decoder by watching one forward pass, without a list of model names.

Notation (methods.md 1): a model has L blocks over a residual stream of width d; block l reads the stream
`[batch, tokens, d]` and returns it with its own writes added. Some models carry several copies of the stream,
`[batch, tokens, copies, d]`; what is said of the last axis holds for each of them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from abliterate.errors import UnsupportedModel

Inputs = Mapping[str, Any]
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
        width: d, the width of the stream.
        copies: how many copies of the stream a block returns in one last axis of `copies * d`; mostly 1.
    """

    names: tuple[str, ...]
    modules: tuple[nn.Module, ...]
    width: int
    copies: int = 1

    def __len__(self) -> int:
        return len(self.modules)

    @property
    def widths(self) -> frozenset[int]:
        """Sizes that the last axis of the stream may have."""
        return frozenset({self.width, self.width * self.copies})

    def layer_of(self, name: str) -> int | None:
        """The block that a module or parameter lies in; None outside of all."""
        return next((layer for layer, block in enumerate(self.names) if name.startswith(f"{block}.")), None)


def candidate_blocks(model: PreTrainedModel, inputs: Inputs) -> Iterator[Blocks]:
    """What the blocks of a model may be, the likeliest first.

    First the list of modules whose executed members all return `[..., d]`, the one with most parameters; members that
    do not run on text alone (the cross-attention to images in Mllama) are no blocks. Then the same with several copies
    of a stream as wide as the embedding in its last axis (Qwen4). Then all lists of the same kind of block (HRM).

    Raises:
        UnsupportedModel: there is no such list.
    """
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    widths: dict[nn.Module, int | None] = {}

    def watch(module: nn.Module, args: object, output: object) -> None:
        tensor = first_tensor(output)
        stream = tensor is not None and tensor.dim() >= 3 and tensor.is_floating_point()
        widths[module] = tensor.shape[-1] if tensor is not None and stream else None

    with hooked((child, watch) for members in lists.values() for child in members):
        forward(model, inputs)
    candidates: dict[str, Blocks] = {}
    for name, members in lists.items():
        running = {f"{name}.{n}": member for n, member in enumerate(members) if member in widths}
        seen = {widths[member] for member in running.values()}
        width = seen.pop() if len(seen) == 1 else None
        if width is not None:
            candidates[name] = Blocks(tuple(running), tuple(running.values()), width)
    if not candidates:
        raise UnsupportedModel(
            f"{type(model).__name__} has no list of blocks that pass on a residual stream",
            "only decoder models built of residual blocks are supported",
        )
    best = max(candidates.values(), key=lambda b: sum(p.numel() for m in b.modules for p in m.parameters()))
    yield best
    embedding = getattr(getattr(model.get_input_embeddings(), "weight", None), "shape", (best.width,))[-1]
    if embedding < best.width and best.width % embedding == 0:
        yield replace(best, width=embedding, copies=best.width // embedding)
    kind = type(best.modules[0])
    alike = [b for b in candidates.values() if b.width == best.width and type(b.modules[0]) is kind]
    if len(alike) > 1:
        names, modules = [n for b in alike for n in b.names], [m for b in alike for m in b.modules]
        yield Blocks(tuple(names), tuple(modules), best.width)


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
