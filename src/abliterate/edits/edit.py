"""The mathematics of every edit, once: on activations, on weights, and as low-rank factors.

Hooks, baker and exporters call these methods and do no mathematics of their own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from abliterate.directions.direction import Direction
from abliterate.errors import SettingsError


@dataclass(frozen=True)
class Ablate:
    """Directional ablation, y <- y - a Q^T Q y, of everything that is written to the stream (methods.md 3.1, 4.2).

    Because it acts on each write and not on the running stream, hooks and folded weights are the same model for any
    strength, not for a = 1 alone. With a = 1 the stream has no component along Q anywhere.

    Attributes:
        direction: with orthonormal rows Q [k, d].
        strength: a; 0 leaves every bit as it was, 1 removes the component.

    Raises:
        SettingsError: a strength outside 0..2 (beyond 1 the component changes sign, 2 reflects it).
    """

    direction: Direction
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= 2.0:
            raise SettingsError(f"strength {self.strength} is out of range", "use a number from 0 to 2; 1 removes")

    def basis_for(self, x: Tensor) -> Tensor:
        """Q [k, d] on the device of `x`, in float32 or better: half precision would leave 1 % of the component."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        return self.direction.basis.to(dtype).to(x.device)  # in this order: mps has no float64

    def apply(self, x: Tensor, basis: Tensor | None = None) -> Tensor:
        """Ablate activations [..., d]; `basis` is a prepared `basis_for(x)`, for callers in a loop."""
        if self.strength == 0.0:
            return x
        q = self.basis_for(x) if basis is None else basis
        rows = x.reshape(-1, x.shape[-1]).to(q.dtype)
        return torch.addmm(rows, rows @ q.T, q, alpha=-self.strength).to(x.dtype).view_as(x)

    def fold(self, weight: Tensor, out_axis: int) -> Tensor:
        """Ablate the outputs of a weight: [d, in] with `out_axis` 0, [in, d] with 1, a bias [d] with 0.

        Computed in float64 and rounded once to the dtype of `weight` (methods.md 1).
        """
        if self.strength == 0.0:
            return weight
        moved = weight.double().movedim(out_axis, -1)
        q = self.direction.basis.to(weight.device)
        folded = moved - self.strength * (moved @ q.T) @ q
        return folded.movedim(-1, out_axis).to(weight.dtype).contiguous()

    def low_rank(self, weight: Tensor, out_axis: int) -> tuple[Tensor, Tensor]:
        """Factors B [d, k] and A [k, in] of the change, so that the folded [d, in] is W + B A (methods.md 4.6)."""
        matrix = weight.double().movedim(out_axis, 0)
        q = self.direction.basis.to(weight.device)
        return -self.strength * q.T, q @ matrix


@dataclass(frozen=True)
class Add:
    """Activation addition, x <- x + c r at the input of one block, at every position (methods.md 3.2).

    Attributes:
        direction: rank 1; r is the raw difference of means, with its norm.
        coefficient: c; -1 moves refused prompts towards answered ones.
        layer: the block, or None for the one that the direction was read at.
    """

    direction: Direction
    coefficient: float = 1.0
    layer: int | None = None

    @property
    def block(self) -> int:
        """Index of the block at whose input it acts."""
        return self.direction.layer if self.layer is None else self.layer

    def apply(self, x: Tensor) -> Tensor:
        """Add to activations [..., d]."""
        if self.coefficient == 0.0:
            return x
        return x + (self.coefficient * self.direction.vector).to(x.dtype).to(x.device)


Edit = Ablate | Add
