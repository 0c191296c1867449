"""Edits as values: on activations, on weights, and as low-rank factors.

Hooks, baker and exporters call these methods, or `anatomy.projection` below them, and do no mathematics of their own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from abliterate.anatomy.projection import fold, remove
from abliterate.directions.direction import Direction
from abliterate.errors import SettingsError


@dataclass(frozen=True)
class Ablate:
    """Directional ablation, y <- y - a U^T U y, of everything that is written to the stream (methods.md 3.1, 4.2).

    U is Q, or the row space of Q M where norms M follow the writer. Because it acts on each write and not on the
    running stream, hooks and folded weights are the same model for any strength, not for a = 1 alone. With a = 1 the
    stream has no component along Q anywhere.

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

    def apply(self, x: Tensor, basis: Tensor | None = None) -> Tensor:
        """Ablate activations [..., d], in float32 or better: half precision would leave 1 % of the component.

        Args:
            x: what is written to the stream.
            basis: what to remove instead of Q, for a writer with gains behind it (`projection.behind`).
        """
        if self.strength == 0.0:
            return x
        q = self.direction.basis if basis is None else basis
        precision = torch.promote_types(x.dtype, torch.float32)
        return remove(x, q.to(precision).to(x.device), self.strength)  # in this order: mps has no float64

    def fold(self, weight: Tensor, out_axis: int, basis: Tensor | None = None) -> Tensor:
        """Ablate the outputs of a weight: any shape with d entries along `out_axis`.

        Computed in float64 and rounded once to the dtype of `weight` (methods.md 1).
        """
        if self.strength == 0.0:
            return weight
        q = self.direction.basis if basis is None else basis
        return fold(weight, out_axis, q.double().to(weight.device), self.strength)

    def low_rank(self, weight: Tensor, out_axis: int, basis: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Factors B [d, k] and A [k, in] of the change, so that the folded [d, in] is W + B A (methods.md 4.6)."""
        matrix = weight.double().movedim(out_axis, 0)
        q = (self.direction.basis if basis is None else basis).double().to(weight.device)
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
        """Add to activations [..., d]; a last axis of several times d holds copies of the stream."""
        if self.coefficient == 0.0:
            return x
        raw = (self.coefficient * self.direction.vector).to(x.dtype).to(x.device)
        return (x.reshape(*x.shape[:-1], x.shape[-1] // len(raw), len(raw)) + raw).view_as(x)


Edit = Ablate | Add
