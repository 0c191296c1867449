"""Quantisers for tests: what other tools write, made by plain rounding."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from abliterate.anatomy.checkpoint import Stored
from abliterate.edits.rounding import float4

NAMES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e8m0fnu: "F8_E8M0",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int32: "I32",
    torch.int64: "I64",
}


def fp8(weight: Tensor, block: tuple[int, int], scale_dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """[..., rows, columns] as float8_e4m3fn, and its scales; e8m0 and uint8 scales are powers of two."""
    scales = largest(weight, block) / 448
    if scale_dtype in (torch.uint8, torch.float8_e8m0fnu):
        exponents = scales.log2().ceil()
        values = torch.exp2(exponents)
        stored = (exponents + 127).to(torch.uint8).view(scale_dtype)
    else:
        stored = scales.to(scale_dtype)
        values = stored.float()
    spread = values.repeat_interleave(block[0], -2)[..., : weight.shape[-2], :]
    spread = spread.repeat_interleave(block[1], -1)[..., : weight.shape[-1]]
    return (weight / spread).clamp(-448, 448).to(torch.float8_e4m3fn), stored


def mxfp4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """[..., rows, columns] as bytes of two e2m1 codes [..., rows, columns / 2], and exponents [..., columns / 32]."""
    exponents = largest(weight, (1, 32)).log2().floor() - 2
    spread = torch.exp2(exponents).repeat_interleave(32, -1)
    grid = float4()
    codes = grid.codes[grid.nearest((weight / spread).double())]
    return codes[..., 0::2] | codes[..., 1::2] << 4, (exponents + 127).to(torch.uint8)


def largest(weight: Tensor, block: tuple[int, int]) -> Tensor:
    """The largest magnitude of every block."""
    below, right = -weight.shape[-2] % block[0], -weight.shape[-1] % block[1]
    full = pad(weight.abs().float(), (0, right, 0, below))
    tiles = full.unflatten(-1, (-1, block[1])).unflatten(-3, (-1, block[0]))
    return tiles.amax((-3, -1))


def headers(tensors: dict[str, Tensor]) -> dict[str, Stored]:
    """What `stored_tensors` would say of tensors that are saved."""
    return {name: Stored(NAMES[tensor.dtype], tuple(tensor.shape)) for name, tensor in tensors.items()}
