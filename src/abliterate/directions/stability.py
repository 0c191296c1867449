"""How far a difference of means depends on which prompts it was fitted to: random halves, and their cosines.

Two halves of the same prompts estimate the same direction; where their cosine is low, the direction at that place is
noise, however well it seems to work. By the Spearman-Brown formula the direction of all prompts is steadier than
either half, so that the cosine of the halves is a careful bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from abliterate.capture.moments import Moments


@dataclass(frozen=True)
class Stability:
    """Of the difference of means at one (position, layer).

    Attributes:
        position: counted from the end.
        layer: block whose input was read.
        cosine: mean over halvings of the cosine between the two halves' directions, -1..1.
        least: the smallest of them.
    """

    position: int
    layer: int
    cosine: float
    least: float


class Halves:
    """Sums of states over one half of the prompts, for several random halvings, gathered in one pass.

    Args:
        count: prompts, at least two.
        seeds: one for each halving.
    """

    def __init__(self, count: int, seeds: Sequence[int]) -> None:
        if count < 2:
            raise ValueError(f"halves need at least two prompts, got {count}")
        self.first = torch.zeros(len(seeds), count, dtype=torch.float64)
        for row, seed in zip(self.first, seeds, strict=True):
            row[torch.randperm(count, generator=torch.Generator().manual_seed(seed))[: count // 2]] = 1
        self._sums: Tensor | None = None

    def update(self, rows: Sequence[int], x: Tensor) -> None:
        """Add the states x [n, positions, layers, d] of the prompts with these numbers."""
        weights = self.first[:, list(rows)]
        flat = x.cpu() if x.device.type == "mps" else x  # mps has no float64
        flat = flat.reshape(len(rows), -1)
        # A slice at a time: a float64 copy of the whole batch would be the largest tensor around.
        parts = [weights.to(flat.device) @ part.double() for part in flat.split(1 << 16, dim=1)]
        sums = torch.cat([part.cpu() for part in parts], dim=1).reshape(-1, *x.shape[1:])
        self._sums = sums if self._sums is None else self._sums + sums

    def means(self, moments: Moments) -> tuple[Tensor, Tensor]:
        """Means [halvings, positions, layers, d] of the first halves and of the second.

        Args:
            moments: of all the prompts.
        """
        if self._sums is None:
            raise ValueError("nothing was gathered")
        taken = self.first.sum(dim=1)[:, None, None, None]
        return self._sums / taken, (moments.mean * moments.count - self._sums) / (moments.count - taken)


def stability(
    refused: tuple[Halves, Moments], answered: tuple[Halves, Moments], positions: Sequence[int]
) -> list[Stability]:
    """The cosine between the directions of two halves at every (position, layer), over all halvings.

    A place where all prompts have the same state has no direction, and gives cosine 0.

    Args:
        refused: of the prompts that are refused.
        answered: of those that are answered, with as many halvings.
        positions: what the positions are, counted from the end.
    """
    first, second = (
        of_refused - of_answered
        for of_refused, of_answered in zip(refused[0].means(refused[1]), answered[0].means(answered[1]), strict=True)
    )
    scale = (first.norm(dim=-1) * second.norm(dim=-1)).clamp_min(1e-30)
    cosines = (first * second).sum(dim=-1) / scale
    return [
        Stability(position, layer, float(cosines[:, p, layer].mean()), float(cosines[:, p, layer].min()))
        for p, position in enumerate(positions)
        for layer in range(cosines.shape[2])
    ]
