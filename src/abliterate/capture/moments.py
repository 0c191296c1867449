"""Streaming float64 moments of activations. Knows no model, no prompt and no file."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass
class Moments:
    """Count, mean and (when asked for) scatter of vectors, per (position, layer).

    Attributes:
        count: number of vectors seen at each site.
        mean: [positions, layers, d], float64.
        scatter: [positions, layers, d, d], float64, the sum of outer products of deviations from the mean, or None.
    """

    count: int
    mean: Tensor
    scatter: Tensor | None = None

    @classmethod
    def empty(cls, positions: int, layers: int, width: int, *, covariance: bool = False) -> Self:
        """Moments of nothing."""
        mean = torch.zeros(positions, layers, width, dtype=torch.float64)
        scatter = torch.zeros(positions, layers, width, width, dtype=torch.float64) if covariance else None
        return cls(0, mean, scatter)

    def update(self, x: Tensor) -> None:
        """Add a batch x [n, positions, layers, d] of any dtype; exact in any grouping up to float64 rounding."""
        x = x.cpu() if x.device.type == "mps" else x  # mps has no float64
        mean = x.mean(dim=0, dtype=torch.float64)  # summed in float64 without a float64 copy of the batch
        scatter = None
        if self.scatter is not None:
            deviation = x.double() - mean
            scatter = torch.einsum("nplc,npld->plcd", deviation, deviation)
        self.merge(Moments(x.shape[0], mean.cpu(), None if scatter is None else scatter.cpu()))

    def merge(self, other: "Moments") -> None:
        """Add moments gathered elsewhere (Chan et al. 1983, the pairwise update)."""
        total = self.count + other.count
        if total == 0:
            return
        delta = other.mean - self.mean
        if self.scatter is not None and other.scatter is not None:
            outer = torch.einsum("plc,pld->plcd", delta, delta)
            self.scatter = self.scatter + other.scatter + outer * (self.count * other.count / total)
        self.mean = self.mean + delta * (other.count / total)
        self.count = total

    @property
    def covariance(self) -> Tensor | None:
        """Covariance [positions, layers, d, d] with n - 1 in the denominator, or None when it was not asked for."""
        return None if self.scatter is None else self.scatter / max(self.count - 1, 1)
