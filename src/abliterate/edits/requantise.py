"""Editing a matrix that is stored in FP8 or MXFP4: dequantise, edit in float64, and store in the same layout again.

Names, dtypes, shapes and block sizes stay as they were. A block keeps its scale unless its numbers outgrow it or
shrink to less than half: on the old scale the numbers that the edit does not move are stored without any error, a new
one would round all of them a second time. A matrix that the edit does not change keeps every byte.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.functional import pad

from abliterate.edits.rounding import Grid, cancel, float4, float8
from abliterate.errors import UnsupportedModel

ROOM = 1 << 22  # numbers worked on at a time; some ten float64 tensors of this size are alive at once
BIAS = 127  # of e8m0, a power of two in one byte


@dataclass(frozen=True)
class RequantError:
    """What storing an edited matrix W' as W'' did, in sums of squares, so that those of many matrices add up.

    Attributes:
        error: |W'' - W'|^2.
        nearest_error: the same for rounding to the nearest value instead.
        edited: |W'|^2.
        left: |Q W''|^2 along the edited directions Q; 0 without any.
        nearest_left: the same for rounding to the nearest value instead.
        wanted: |Q W'|^2.
        before: |Q W|^2 of the matrix as it was stored.
    """

    error: float = 0.0
    nearest_error: float = 0.0
    edited: float = 0.0
    left: float = 0.0
    nearest_left: float = 0.0
    wanted: float = 0.0
    before: float = 0.0

    def __add__(self, other: "RequantError") -> "RequantError":
        return RequantError(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    @property
    def relative(self) -> float:
        """|W'' - W'| / |W'|; rounding a matrix that was not edited has 0, its values being the format's own."""
        return _ratio(self.error, self.edited)

    @property
    def nearest_relative(self) -> float:
        """What `relative` would be for rounding to the nearest value."""
        return _ratio(self.nearest_error, self.edited)

    @property
    def component_left(self) -> float:
        """|Q W''| / |Q W|, to be compared with `component_wanted`."""
        return _ratio(self.left, self.before)

    @property
    def nearest_component_left(self) -> float:
        """What `component_left` would be for rounding to the nearest value."""
        return _ratio(self.nearest_left, self.before)

    @property
    def component_wanted(self) -> float:
        """|Q W'| / |Q W|, which is |1 - a| at strength a."""
        return _ratio(self.wanted, self.before)


@dataclass(frozen=True)
class Packed:
    """A matrix [rows, columns], or a stack of them, stored as codes of a small format and block scales.

    Attributes:
        weight: on-disk name of the codes; two to a byte in FP4, the lower four bits first.
        scale: on-disk name of the scales, by which the codes' values are multiplied.
        format: of the codes; `float4_e2m1fn_x2` for e2m1.
        shape: of the dequantised matrix as it lies on the disk, [..., rows, columns].
        block: rows and columns that share a scale.
        scale_dtype: of the scales; in uint8 and e8m0 a byte b means 2^(b - 127).
        transposed: whether the module holds [..., columns, rows], as the experts of gpt-oss do.
    """

    weight: str
    scale: str
    format: torch.dtype
    shape: tuple[int, ...]
    block: tuple[int, int]
    scale_dtype: torch.dtype
    transposed: bool = False

    @property
    def parts(self) -> tuple[str, str]:
        """On-disk names of all that it takes; they may lie in different files."""
        return self.weight, self.scale

    @property
    def grid(self) -> Grid:
        """The values of the format."""
        return float4() if self.four_bit else float8(self.format)

    @property
    def exponent(self) -> bool:
        """Whether scales are powers of two."""
        return self.scale_dtype in (torch.uint8, torch.float8_e8m0fnu)

    @property
    def four_bit(self) -> bool:
        """Whether a byte holds two codes."""
        return self.format == torch.float4_e2m1fn_x2

    def dequantise(self, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Tensor:
        """The matrix as the module holds it. Products are exact in float64, and rounded once to `dtype`.

        Args:
            tensors: holds both parts.
            dtype: of the result.

        Raises:
            UnsupportedModel: a code or a scale is no finite number.
        """
        out = torch.empty(self.shape, dtype=dtype, device=tensors[self.weight].device)
        stacked = out.view(-1, *self.shape[-2:])
        for matrix, codes, scales in zip(stacked, self._codes(tensors), self._scales(tensors), strict=True):
            matrix.copy_(self._values(codes) * _spread(scales, self.block, codes.shape))
        return out.transpose(-1, -2).contiguous() if self.transposed else out

    def refold(
        self,
        tensors: Mapping[str, Tensor],
        fold: Callable[[Tensor], Tensor],
        axis: int,
        basis: Tensor | None = None,
    ) -> tuple[dict[str, Tensor], RequantError]:
        """Edit the matrix and store it as it was stored.

        Args:
            tensors: holds both parts; they are not changed.
            fold: the edit of n vectors along the stream [n, d] in float64, such as `edit.fold(matrix, 1)`. It gets
                all of a large matrix in several calls, so it has to act on each vector by itself.
            axis: of the matrix as the module holds it, the one that runs along the stream.
            basis: [k, d] orthonormal rows Q that are edited: roundings are chosen so that Q W'' = Q W'. None
                rounds to the nearest value.

        Returns:
            Both parts under their names, of the same dtypes and shapes, and the error.

        Raises:
            UnsupportedModel: a code or a scale is no finite number.
        """
        rows_are_stream = (axis % len(self.shape) == len(self.shape) - 2) != self.transposed
        codes, scales = self._codes(tensors).clone(), self._scales(tensors).clone()
        error = RequantError()
        for one_codes, one_scales in zip(codes, scales, strict=True):
            turned = (one_codes.T, one_scales.T) if rows_are_stream else (one_codes, one_scales)
            block = (self.block[1], self.block[0]) if rows_are_stream else self.block
            for part, part_scales in _chunks(*turned, block[0]):
                error += self._refold(part, part_scales, block, fold, basis)
        return self._stored(tensors, codes, scales), error

    def _refold(
        self,
        codes: Tensor,
        scales: Tensor,
        block: tuple[int, int],
        fold: Callable[[Tensor], Tensor],
        basis: Tensor | None,
    ) -> RequantError:
        """Change codes [n, d] and scales in place, which are views of what will be stored."""
        grid = self.grid
        before = self._values(codes) * _spread(scales, block, codes.shape)
        after = fold(before)
        q = before.new_zeros(0, before.shape[1]) if basis is None else basis.to(before)
        size, was, wanted = (float(x.square().sum()) for x in (after, before @ q.T, after @ q.T))
        if torch.equal(after, before):
            return RequantError(0.0, 0.0, size, was, was, wanted, was)
        chosen = self._choose_scales(before, after, scales, block)
        scale, same = (_spread(x, block, codes.shape) for x in (chosen, chosen == scales))
        # In float32, which is three times as fast; in a unit of the size of the scales, whose squares may overflow.
        unit = torch.exp2(chosen.amax().clamp_min(1e-300).log2().floor())
        target, small = ((x / unit).float() for x in (after, scale))
        nearest = grid.nearest(target / small)
        index = cancel(nearest, target, small, q.float(), grid) if len(q) else nearest
        unchanged = same & (index == grid.positions(codes))  # keeps the sign of zeros
        codes.copy_(torch.where(unchanged, codes, grid.encode(index)))
        scales.copy_(chosen)
        best, plain = (grid.at(x, scale) * scale for x in (index, nearest))
        squares = (best - after, plain - after, after, best @ q.T, plain @ q.T, after @ q.T, before @ q.T)
        return RequantError(*(float(x.square().sum()) for x in squares))

    def _choose_scales(self, before: Tensor, after: Tensor, scales: Tensor, block: tuple[int, int]) -> Tensor:
        """The old scales, but where the numbers overflow or halve the one with the least squared error.

        Anywhere else a new scale gains nothing (measured: the same error to four digits), since on the old one the
        numbers that do not move have no error.
        """
        top, was = (_blocks(x.abs(), block).amax((1, 3)) for x in (after, before))
        doubtful = (top > self.grid.edge * scales) | (2 * top < was)
        if not bool(doubtful.any()):
            return scales
        if self.exponent:
            # The least power of two that holds the maximum, and half of it, which clips. Twice it is never better: of
            # the values that it offers below the maximum, this one offers every one too.
            up = (top / self.grid.largest).log2().ceil().clamp(1 - BIAS, BIAS)
            candidates = [torch.exp2(up), torch.exp2(up - 1)]
        else:
            candidates = [(top / self.grid.largest).to(self.scale_dtype).double()]
        best, least = scales, self._squared_error(after, scales, block)
        for candidate in candidates:
            usable = torch.where(doubtful & (candidate > 0) & candidate.isfinite(), candidate, scales)
            error = self._squared_error(after, usable, block)
            best, least = torch.where(error < least, usable, best), torch.minimum(error, least)
        return best

    def _squared_error(self, after: Tensor, scales: Tensor, block: tuple[int, int]) -> Tensor:
        scale = _spread(scales, block, after.shape)
        rounded = self.grid.at(self.grid.nearest(after / scale), scale) * scale
        return _blocks((rounded - after).square(), block).sum((1, 3))

    def _values(self, codes: Tensor) -> Tensor:
        return self.grid.values.to(codes.device)[self.grid.positions(codes)]

    def _codes(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """One code a number, uint8 [stack, rows, columns]; a view of what is stored where a byte holds one."""
        codes = tensors[self.weight].contiguous().view(torch.uint8)
        if self.four_bit:
            codes = torch.stack((codes & 15, codes >> 4), -1)
        codes = codes.reshape(-1, *self.shape[-2:])
        for code in (self.grid.index < 0).nonzero()[:, 0].tolist():
            if bool((codes == code).any()):
                raise UnsupportedModel(f"{self.weight} holds numbers that are not finite", "download it again")
        return codes

    def _scales(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """float64 [stack, block rows, block columns]."""
        scales = tensors[self.scale].contiguous()
        values = torch.exp2(scales.view(torch.uint8).double() - BIAS) if self.exponent else scales.double()
        if not bool(values.isfinite().all()):
            raise UnsupportedModel(f"{self.scale} holds numbers that are not finite", "download it again")
        rows, columns = (-(-side // of) for side, of in zip(self.shape[-2:], self.block, strict=True))
        return values.reshape(-1, rows, columns)

    def _stored(self, tensors: Mapping[str, Tensor], codes: Tensor, scales: Tensor) -> dict[str, Tensor]:
        old_weight, old_scale = tensors[self.weight], tensors[self.scale]
        if self.four_bit:
            pairs = codes.view(*codes.shape[:-1], -1, 2)
            codes = pairs[..., 0] | pairs[..., 1] << 4
        if self.exponent:
            new_scale = (scales.log2().round() + BIAS).to(torch.uint8).view(old_scale.dtype)
        else:
            new_scale = scales.to(old_scale.dtype)
        return {
            self.weight: codes.contiguous().view(old_weight.dtype).reshape(old_weight.shape),
            self.scale: new_scale.reshape(old_scale.shape),
        }


def _chunks(codes: Tensor, scales: Tensor, block_rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Views of whole blocks of vectors, of about `ROOM` numbers."""
    blocks = max(1, ROOM // (block_rows * codes.shape[1]))
    for start in range(0, scales.shape[0], blocks):
        rows = slice(start * block_rows, (start + blocks) * block_rows)
        yield codes[rows], scales[start : start + blocks]


def _spread(scales: Tensor, block: tuple[int, int], shape: tuple[int, ...]) -> Tensor:
    """One scale a number: [block rows, block columns] to [rows, columns]; blocks at the end may be cut off."""
    rows = scales.repeat_interleave(block[0], 0)[: shape[0]]
    return rows.repeat_interleave(block[1], 1)[:, : shape[1]]


def _blocks(x: Tensor, block: tuple[int, int]) -> Tensor:
    """[block rows, rows of a block, block columns, columns of a block], filled up with zeros."""
    below, right = (-side % of for side, of in zip(x.shape, block, strict=True))
    padded = pad(x, (0, right, 0, below))
    return padded.view(padded.shape[0] // block[0], block[0], padded.shape[1] // block[1], block[1])


def _ratio(square: float, of: float) -> float:
    return float((square / of) ** 0.5) if of else 0.0
