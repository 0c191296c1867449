"""Rounding to the values that a low-precision format can hold, and rounding that keeps an edit.

Rounding every number to the nearest value is the wrong way to store an edited matrix. An ablation moves each number
by about 1/sqrt(d) of its size, less than half a step of FP8 or FP4, so the nearest value is mostly the one it came
from: the error against the exact result is small, but it all points along the direction, and the edit is undone.
What has to be small is the component of the error along the direction; `cancel` moves the numbers for which that
costs least to the neighbouring value until it is.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

# A round leaves more than SHORT of a component where a vector runs out of neighbours, and where the moves for one
# direction disturb another; those vectors get further rounds.
ROUNDS, SHORT = 8, 0.02
FINE = 2  # single moves a vector and direction at the end; each leaves about 1/d of what the one before left
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


@dataclass(frozen=True)
class Grid:
    """The finite values of a format.

    Attributes:
        values: [n] float64, ascending; zero once.
        codes: [n] uint8, how each is stored.
        index: [256] or [16] int64, where the value of each code stands in `values`; -1 where a code has no finite one.
    """

    values: Tensor
    codes: Tensor
    index: Tensor

    @property
    def largest(self) -> float:
        """The largest value."""
        return float(self.values[-1])

    @property
    def edge(self) -> float:
        """Up to which numbers are rounded to the largest value, and no worse than those before it."""
        return float(1.5 * self.values[-1] - 0.5 * self.values[-2])

    def positions(self, codes: Tensor) -> Tensor:
        """Where the values of codes stand; int64 of the same shape."""
        return self.index.to(codes.device)[codes.long()]

    def encode(self, index: Tensor) -> Tensor:
        """The codes of the values at positions."""
        return self.codes.to(index.device)[index]

    def at(self, index: Tensor, like: Tensor) -> Tensor:
        """The values at positions, in the dtype of another tensor."""
        return self.values.to(like).take(index)

    def nearest(self, x: Tensor) -> Tensor:
        """Positions of the values nearest to `x`, of any shape; beyond the ends, the ends."""
        return torch.bucketize(x.contiguous(), ((self.values[1:] + self.values[:-1]) / 2).to(x))


@cache
def float8(dtype: torch.dtype) -> Grid:
    """The grid of `torch.float8_e4m3fn` or `torch.float8_e5m2`."""
    return _grid(torch.arange(256, dtype=torch.uint8).view(dtype).double())


@cache
def float4() -> Grid:
    """The grid of e2m1; the sign is the highest of four bits."""
    return _grid(torch.tensor([*E2M1, *(-value for value in E2M1)], dtype=torch.float64))


def _grid(of_code: Tensor) -> Grid:
    finite = of_code.isfinite()
    values = of_code[finite].unique()  # -0 counts as 0
    index = torch.full(of_code.shape, -1)
    index[finite] = torch.searchsorted(values, of_code[finite])
    codes = torch.zeros(len(values), dtype=torch.uint8)
    for code in reversed(range(len(of_code))):  # the lowest code last: +0 rather than -0
        if finite[code]:
            codes[index[code]] = code
    return Grid(values, codes, index)


def cancel(index: Tensor, target: Tensor, scale: Tensor, basis: Tensor, grid: Grid) -> Tensor:
    """Change roundings so that the error has next to no component along a basis, at the least squared error.

    For one direction u and one vector this is min |e|^2 subject to u.e = 0 over neighbouring values. Its relaxed
    solution takes the moves in the order of what they cost for what they bring, up to where the component is gone;
    then single moves, each the one that leaves least, make up for the last move's being whole.

    Args:
        index: [n, d], the nearest values of n vectors along the stream.
        target: [n, d], what is rounded.
        scale: [n, d], by which the values are multiplied.
        basis: [k, d], orthonormal rows.
        grid: the values.

    Returns:
        [n, d], the new positions.
    """
    error = grid.at(index, target) * scale - target
    limit = SHORT * (error @ basis.T).norm(dim=1)
    short = torch.arange(len(index), device=index.device)
    for _ in range(ROUNDS):
        part, part_error = _cheapest(index[short], error[short], scale[short], basis, grid)
        index, error = index.index_copy(0, short, part), error.index_copy(0, short, part_error)
        short = short[(part_error @ basis.T).norm(dim=1) > limit[short]]
        if not len(short):
            break
    for _ in range(FINE * len(basis)):
        index, error = _closest(index, error, scale, basis, grid)
    return index


def _cheapest(index: Tensor, error: Tensor, scale: Tensor, basis: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    components = error @ basis.T
    size = components.norm(dim=1, keepdim=True)
    u = (components / size.clamp_min(torch.finfo(size.dtype).tiny)) @ basis  # of each vector, where its error points
    moved, step = _towards(index, scale, -u, grid)
    brings = (u * step).abs()
    price = torch.where(brings > 0, step * (step + 2 * error) / brings, torch.inf)
    order = price.argsort(1)
    total = brings.gather(1, order).cumsum(1)
    take = torch.zeros_like(index, dtype=torch.bool).scatter_(1, order, total <= size) & (brings > 0)
    return torch.where(take, moved, index), torch.where(take, error + step, error)


def _closest(index: Tensor, error: Tensor, scale: Tensor, basis: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    slope = (error @ basis.T) @ basis  # half the gradient of the squared component
    moved, step = _towards(index, scale, -slope, grid)
    change = step * (2 * slope + step * basis.square().sum(0))
    best = change.argmin(1, keepdim=True)
    better = change.gather(1, best) < 0
    moved, step = moved.gather(1, best), step.gather(1, best)
    index = index.scatter(1, best, torch.where(better, moved, index.gather(1, best)))
    return index, error.scatter_add(1, best, torch.where(better, step, 0))


def _towards(index: Tensor, scale: Tensor, sign: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """The neighbouring values on the side of a sign, and how far they are."""
    moved = (index + sign.sign().long()).clamp_(0, len(grid.values) - 1)
    return moved, (grid.at(moved, scale) - grid.at(index, scale)) * scale
