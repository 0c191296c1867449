"""Batches of similar length, sized to a token budget and halved when memory runs out."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor

from abliterate.progress import SILENT, Progress

T = TypeVar("T")

# Rows x tokens of one batch. A CPU gains nothing past a few thousand; a GPU is halved down if this is too much.
TOKEN_BUDGET = {"cpu": 4096, "cuda": 65536, "mps": 8192}


def run_batched(
    sequences: Sequence[Sequence[int]],
    work: Callable[[list[int]], list[T]],
    *,
    device: torch.device,
    extra_tokens: int = 0,
    title: str,
    progress: Progress = SILENT,
) -> list[T]:
    """Apply `work` to batches of indices into `sequences`; results come back in the original order.

    Args:
        sequences: token ids, used for their lengths.
        work: takes indices and returns one result each; called again on half the batch when memory runs out.
        device: whose token budget applies.
        extra_tokens: tokens that `work` adds to each row (a completion).
        title: what to call this in the progress bar.
        progress: told of every finished row.

    Raises:
        Whatever `work` raises, and the out-of-memory error when a single row does not fit.
    """
    order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))  # the largest batch fails first
    results: dict[int, T] = {}
    budget = TOKEN_BUDGET[device.type]
    with progress.track(title, len(sequences)) as advance:
        while order:
            rows = max(1, budget // (len(sequences[order[0]]) + extra_tokens))
            batch = order[:rows]
            try:
                results.update(zip(batch, work(batch), strict=True))
            except RuntimeError as error:
                if len(batch) == 1 or not should_reduce_batch_size(error):
                    raise
                budget = (len(batch) // 2) * (len(sequences[order[0]]) + extra_tokens)
                _free_memory()
                continue
            order = order[len(batch) :]
            advance(len(batch))
    return [results[i] for i in range(len(sequences))]


@dataclass(frozen=True)
class Batch:
    """Left-padded rows, so that the last position of every row is its last token.

    Attributes:
        ids: [batch, tokens].
        mask: [batch, tokens], 1 for tokens and 0 for padding.
    """

    ids: Tensor
    mask: Tensor

    @property
    def position_ids(self) -> Tensor:
        """Positions [batch, tokens] that count only real tokens, so that padding shifts nothing."""
        return (self.mask.cumsum(dim=1) - 1).clamp_min(0)


def pad(sequences: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> Batch:
    """Pad token ids on the left, whatever the tokenizer's own habit."""
    width = max(map(len, sequences))
    ids = torch.full((len(sequences), width), pad_id)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, width - len(sequence) :] = torch.tensor(sequence)
        mask[row, width - len(sequence) :] = 1
    return Batch(ids.to(device), mask.to(device))


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
