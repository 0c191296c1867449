"""Moments of the residual stream at every block's input and every template position."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from abliterate.anatomy.blocks import modules_named, pre_hooked, stream_of
from abliterate.anatomy.load import Subject
from abliterate.capture.batching import run_batched
from abliterate.capture.forward import batch_of, run_decoder
from abliterate.capture.moments import Moments
from abliterate.progress import SILENT, Progress


def collect(
    subject: Subject,
    sequences: Sequence[Sequence[int]],
    positions: Sequence[int],
    *,
    covariance: bool = False,
    also: Callable[[list[int], Tensor], None] | None = None,
    progress: Progress = SILENT,
) -> Moments:
    """Stream the residual stream at the input of every block into moments.

    Args:
        subject: the model.
        sequences: token ids of the prompts, each at least `len(positions)` long.
        positions: consecutive positions counted from the end, (-n, ..., -1).
        covariance: also gather second moments, [positions, L, d, d].
        also: given the rows of each batch and their states [batch, positions, L, d], for what moments do not hold.
        progress: told of every finished prompt.

    Returns:
        Moments over prompts, [positions, L, d].
    """
    anatomy = subject.anatomy
    moments = Moments.empty(len(positions), anatomy.layers, anatomy.width, covariance=covariance)

    def work(rows: list[int]) -> list[None]:
        with block_inputs(subject, len(positions)) as states:
            run_decoder(subject, batch_of(subject, [sequences[i] for i in rows]))
        stacked = torch.stack(states, dim=2)
        moments.update(stacked)
        if also is not None:
            also(rows, stacked)
        return [None] * len(rows)

    run_batched(sequences, work, device=subject.model.device, title="capture", progress=progress)
    return moments


def projections(
    subject: Subject, sequences: Sequence[Sequence[int]], basis: Tensor, *, progress: Progress = SILENT
) -> Tensor:
    """Coordinates [n, positions, L] of each prompt's stream along unit vectors `basis` [positions, L, d]."""
    device = subject.model.device
    vectors = basis.to(device, torch.float32)

    def work(rows: list[int]) -> list[Tensor]:
        with block_inputs(subject, basis.shape[0]) as states:
            run_decoder(subject, batch_of(subject, [sequences[i] for i in rows]))
        return list(torch.einsum("npld,pld->npl", torch.stack(states, dim=2).float(), vectors).cpu())

    rows = run_batched(sequences, work, device=device, title="project", progress=progress)
    return torch.stack(rows)


@contextmanager
def block_inputs(subject: Subject, positions: int) -> Iterator[list[Tensor]]:
    """Collect the last `positions` of the stream at each block's input: L tensors [batch, positions, d].

    Of a block that runs several times the last run counts.
    """
    anatomy = subject.anatomy
    states: list[Tensor] = []
    numbers = {block: layer for layer, block in enumerate(modules_named(subject.model, anatomy.blocks))}

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = one_stream(stream_of(args, kwargs), anatomy.width)[:, -positions:].clone()  # blocks may add in place
        if numbers[module] < len(states):
            states[numbers[module]] = x
        else:
            states.append(x)

    with pre_hooked((block, enter) for block in numbers):
        yield states


def one_stream(x: Tensor, width: int) -> Tensor:
    """The stream [batch, tokens, d] where a model carries several copies of it: their mean.

    Args:
        x: [batch, tokens, d], [batch, tokens, copies, d] or [batch, tokens, copies * d].
        width: d.
    """
    copies = x.reshape(*x.shape[:2], -1, width)
    return copies[:, :, 0] if copies.shape[2] == 1 else copies.mean(dim=2)
