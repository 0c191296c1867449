"""Looking at the residual stream along a direction: at every input, read and output of the blocks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from abliterate.anatomy.blocks import Inputs, first_tensor, hooked, modules_named, pre_hooked, stream_of
from abliterate.anatomy.projection import remove
from abliterate.anatomy.stream import Stream


@dataclass(frozen=True)
class View:
    """One pass seen along a subspace.

    Attributes:
        components: Q x / |x| at every place, [places, tokens, k], float32 on the CPU.
        places: what each is, for messages: `input of model.layers.0`, `read in ...`, `output of ...`.
        logits: [batch, tokens, vocabulary], float64 on the CPU.
    """

    components: Tensor
    places: tuple[str, ...]
    logits: Tensor

    @property
    def largest(self) -> float:
        """The largest |Q x| / |x| anywhere."""
        return float(self.components.norm(dim=-1).max())

    def first_above(self, tolerance: float) -> str:
        """The first place with a larger component."""
        above = (self.components.norm(dim=-1).amax(dim=-1) > tolerance).tolist()
        return next((place for place, too_much in zip(self.places, above, strict=True) if too_much), "nowhere")


Measure = Callable[[Tensor, str], None]


@contextmanager
def _following(
    model: PreTrainedModel, blocks: Sequence[str], stream: Stream, renewed: Sequence[str], measure: Measure | None
) -> Iterator[None]:
    """Mark the stream at every block's input and output, and at the norms that renew it."""
    names = dict(zip(modules_named(model, blocks), blocks, strict=True))

    def enter(module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        x = stream_of(args, kwargs)
        stream.mark(x)
        if measure is not None:
            measure(x, f"the input of {names[module]}")

    def leave(module: nn.Module, args: object, output: object) -> None:
        x = first_tensor(output)
        if x is None:
            return
        stream.mark(x)
        if measure is not None and module in names:
            measure(x, f"the output of {names[module]}")

    with (
        hooked((module, leave) for module in modules_named(model, renewed)),
        pre_hooked((module, enter) for module in names),
        hooked((module, leave) for module in names),
    ):
        yield


def look(
    model: PreTrainedModel,
    blocks: Sequence[str],
    inputs: Inputs,
    basis: Tensor,
    *,
    copies: int = 1,
    renewed: Sequence[str] = (),
    mask: Tensor | None = None,
) -> View:
    """Run a model and measure the stream's component along `basis` [k, d].

    Args:
        model: hooked or not.
        blocks: names of its blocks.
        inputs: of the forward pass.
        basis: orthonormal rows.
        copies: of the stream in its last axis (`Anatomy.copies`).
        renewed: norms whose output is the stream (`Anatomy.renewed`).
        mask: [batch, tokens], true where a token counts; all by default.
    """
    q = basis.to(model.device, torch.float32)
    components: list[Tensor] = []
    places: list[str] = []

    def measure(x: Tensor, place: str) -> None:
        rows = stream.unmarked(x).float()
        if mask is not None and rows.shape[:2] == mask.shape:
            rows = rows[mask]
        rows = rows.reshape(-1, q.shape[-1])  # copies of the stream count as tokens
        components.append((rows @ q.T / rows.norm(dim=-1, keepdim=True).clamp_min(1e-30)).cpu())
        places.append(place)

    stream = Stream(
        {q.shape[-1], copies * q.shape[-1]}, lambda x: measure(x, f"a read after {places[-1]}" if places else "a read")
    )
    with torch.no_grad(), _following(model, blocks, stream, renewed, measure), stream:
        logits = model(**inputs, use_cache=False).logits
    widest = max(len(rows) for rows in components)
    padded = [torch.nn.functional.pad(rows, (0, 0, 0, widest - len(rows))) for rows in components]
    return View(torch.stack(padded), tuple(places), logits.detach().double().cpu())


def read_without(
    model: PreTrainedModel,
    blocks: Sequence[str],
    inputs: Inputs,
    basis: Tensor,
    *,
    copies: int = 1,
    renewed: Sequence[str] = (),
    early: bool,
) -> Tensor:
    """Logits of the model when `basis` [k, d] is removed from the stream at each of its reads, not from its writes.

    This knows nothing of writers, and for an edit that leaves nothing of the direction in the stream it must give the
    same model (in models without a norm behind a writer, whose statistics it does not touch).

    Args:
        model: unedited.
        blocks: names of its blocks.
        inputs: of the forward pass.
        basis: orthonormal rows.
        copies: of the stream in its last axis (`Anatomy.copies`).
        renewed: norms whose output is the stream.
        early: whether what reads the embedding before the first block reads the stream.
    """
    q = basis.to(model.device, torch.float32)
    stream = Stream({q.shape[-1], copies * q.shape[-1]}, lambda x: remove(stream.unmarked(x), q, 1.0))

    def embed(module: nn.Module, args: object, output: object) -> None:
        x = first_tensor(output)
        if x is not None and x.shape[-1] == q.shape[-1]:
            stream.mark(x)

    embeddings = [(model.get_input_embeddings(), embed)] if early else []
    with torch.no_grad(), hooked(embeddings), _following(model, blocks, stream, renewed, None), stream:
        logits: Tensor = model(**inputs, use_cache=False).logits
    return logits.detach().double().cpu()
