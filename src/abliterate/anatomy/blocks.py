"""Finding the residual blocks of a decoder by watching one forward pass, without a list of model names.

Notation (methods.md 1): a model has L blocks over a residual stream of width d; block l reads the stream
`[batch, tokens, d]` and returns it with its own writes added.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from abliterate.errors import UnsupportedModel

PROBE_SHAPE = (2, 16)  # sequences x tokens: 32 stream vectors are enough to tell a dozen writers apart


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
    if isinstance(output, tuple) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


def hidden_size(model: PreTrainedModel) -> int:
    """The width d of the residual stream."""
    return int(model.config.get_text_config().hidden_size)


def probe_ids(model: PreTrainedModel) -> Tensor:
    """Random token ids `PROBE_SHAPE` from a private generator, on the model's device."""
    vocabulary = int(model.config.get_text_config().vocab_size)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, vocabulary, PROBE_SHAPE, generator=generator).to(model.device)


@dataclass(frozen=True)
class Blocks:
    """The residual blocks, in order of execution.

    Attributes:
        name: dotted name of the list that holds them, for example `model.layers`.
        modules: the L blocks.
    """

    name: str
    modules: tuple[nn.Module, ...]

    def __len__(self) -> int:
        return len(self.modules)

    def path(self, layer: int) -> str:
        """Dotted name of one block."""
        return f"{self.name}.{layer}"


def find_blocks(model: PreTrainedModel) -> Blocks:
    """Find the outermost module list whose members all return `[..., d]`; the one with most parameters wins.

    Raises:
        UnsupportedModel: no such list, or its members are executed out of order or more than once.
    """
    width = hidden_size(model)
    lists = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    executed: list[nn.Module] = []
    emits_stream: set[nn.Module] = set()

    def watch(module: nn.Module, args: object, output: object) -> None:
        executed.append(module)
        tensor = first_tensor(output)
        if tensor is not None and tensor.dim() == 3 and tensor.shape[-1] == width:
            emits_stream.add(module)

    with hooked((child, watch) for _, members in lists for child in members):
        forward(model, probe_ids(model))
    candidates = [(name, members) for name, members in lists if len(members) and set(members) <= emits_stream]
    if not candidates:
        raise UnsupportedModel(
            f"{type(model).__name__} has no list of blocks that pass a residual stream of width {width}",
            "only decoder models built of residual blocks are supported",
        )
    name, members = max(candidates, key=lambda pair: sum(p.numel() for p in pair[1].parameters()))
    modules = tuple(members)
    if [module for module in executed if module in set(modules)] != list(modules):
        raise UnsupportedModel(
            f"the blocks in {name} are not executed once each and in order",
            "models that share or skip blocks are not supported yet",
        )
    return Blocks(name, modules)


@contextmanager
def hooked(pairs: Any) -> Iterator[None]:  # noqa: ANN401 - torch's hook signature is untyped
    """Register `(module, forward hook)` pairs for the duration of the context."""
    with ExitStack() as stack:
        for module, hook in pairs:
            stack.callback(module.register_forward_hook(hook).remove)
        yield


def forward(model: PreTrainedModel, input_ids: Tensor) -> Tensor:
    """Logits `[batch, tokens, vocabulary]` of a plain forward pass, without cache or gradient."""
    with torch.inference_mode():
        logits: Tensor = model(input_ids=input_ids, use_cache=False).logits
    return logits


def modules_named(model: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """The modules of those dotted names."""
    return [model.get_submodule(name) for name in names]
