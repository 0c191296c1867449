"""Removing a subspace from what is written to the residual stream: the mathematics of directional ablation, once.

A write y in R^d reaches the stream as s M y, where s is a number per token and M the fixed linear map of the norms and
gains behind the writer (the identity for most writers). The stream keeps nothing along the rows of Q [k, d] exactly
when Q M y = 0, so what is removed from y is the row space U of Q M (methods.md 4.2 and 4.4). Every function here takes
that U as `basis`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def remove(x: Tensor, basis: Tensor, strength: float) -> Tensor:
    """Activations [..., d] become x - a U^T U x, computed in the dtype of U [k, d]; the dtype of x is kept.

    A last axis of several times d holds copies of the stream, each of which is edited.
    """
    rows = x.reshape(-1, basis.shape[-1]).to(basis.dtype)
    return torch.addmm(rows, rows @ basis.T, basis, alpha=-strength).to(x.dtype).view_as(x)


def fold(weight: Tensor, out_axis: int, basis: Tensor, strength: float) -> Tensor:
    """The weight whose outputs are `remove`d: any shape, with d entries along `out_axis`; `basis` in float64.

    Computed in float64 and rounded once to the dtype of `weight` (methods.md 1).
    """
    if weight.dim() > 2 and out_axis % weight.dim() > 0:  # stacked experts one by one: float64 is four times their size
        return torch.stack([fold(part, out_axis % weight.dim() - 1, basis, strength) for part in weight])
    moved = weight.double().movedim(out_axis, -1)
    folded = moved - strength * (moved @ basis.T) @ basis
    return folded.movedim(-1, out_axis).to(weight.dtype).contiguous()


def behind(basis: Tensor, gains: Sequence[Tensor], centred: Sequence[bool]) -> Tensor:
    """An orthonormal basis of the row space of Q M, float64 [k, d].

    Args:
        basis: Q [k, d].
        gains: the diagonals [d] of M, from the stream back to the writer.
        centred: for each, whether the mean over d is subtracted before the diagonal is applied, as LayerNorm does.

    Returns:
        U [k, d] with orthonormal rows; Q itself, to the bit, when there are no gains.
    """
    if not gains:
        return basis
    rows = basis.double()
    for gain, centre in zip(gains, centred, strict=True):
        rows = rows * gain.double()
        if centre:
            rows = rows - rows.mean(dim=-1, keepdim=True)
    orthonormal: Tensor = torch.linalg.qr(rows.T).Q
    return orthonormal.T.contiguous()
