"""Claim: an ablation stored in FP8 or MXFP4 leaves at most 1e-4 of the component, for twice the nearest values' error.

Random matrices, whose share along the direction is that of chance (an edit of 1/sqrt(d)) or five times that.
"""

import time

import torch
from torch import Tensor

from abliterate.edits.requantise import Packed, RequantError
from abliterate.edits.rounding import float4, float8
from benchmarks.common import report

COLUMNS = 512


def main() -> None:
    """Measure and print."""
    rows = [_row(form, width, share) for form in ("fp8", "mxfp4") for width in (1024, 4096) for share in (1.0, 5.0)]
    report(
        {
            "benchmark": "requantise",
            "worst_component": max(row["left"] for row in rows),
            "worst_ratio": max(row["error"] / row["nearest_error"] for row in rows),
            "limits": [1e-4, 2.0],
            "rows": [
                {key: value if isinstance(value, int) else float(f"{value:.3g}") for key, value in row.items()}
                for row in rows
            ],
        }
    )


def _row(form: str, width: int, share: float) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    weight = 0.02 * torch.randn(width, COLUMNS, generator=generator, dtype=torch.float64)
    u = torch.nn.functional.normalize(torch.randn(1, width, generator=generator, dtype=torch.float64), dim=1)
    weight += (share - 1) * u.T @ (u @ weight)
    packed, tensors = _fp8(weight) if form == "fp8" else _mxfp4(weight)
    stored = packed.dequantise(tensors, torch.float64)
    start = time.process_time()
    _, error = packed.refold(tensors, lambda vectors: vectors - (vectors @ u.T) @ u, 0, u)
    seconds = time.process_time() - start
    return {
        "bits": 8 if form == "fp8" else 4,
        "width": width,
        "edit": float((u @ stored).norm() / stored.norm()),
        "format_error": float((stored - weight).norm() / weight.norm()),
        **_measured(error),
        "cpu_seconds_per_million": seconds / weight.numel() * 1e6,
    }


def _measured(error: RequantError) -> dict[str, float]:
    return {
        "nearest_error": error.nearest_relative,
        "nearest_left": error.nearest_component_left,
        "error": error.relative,
        "left": error.component_left,
    }


def _fp8(weight: Tensor) -> tuple[Packed, dict[str, Tensor]]:
    """In blocks of 128 x 128, as DeepSeek-V3 is stored."""
    tiles = weight.unflatten(1, (-1, 128)).unflatten(0, (-1, 128))
    scales = (tiles.abs().amax((1, 3)) / float8(torch.float8_e4m3fn).largest).float()
    spread = scales.repeat_interleave(128, 0).repeat_interleave(128, 1)
    packed = Packed("w", "s", torch.float8_e4m3fn, tuple(weight.shape), (128, 128), torch.float32)
    return packed, {"w": (weight / spread).float().to(torch.float8_e4m3fn), "s": scales}


def _mxfp4(weight: Tensor) -> tuple[Packed, dict[str, Tensor]]:
    """In blocks of 32 along the inputs."""
    grid = float4()
    exponents = weight.unflatten(1, (-1, 32)).abs().amax(2).log2().floor() - 2
    codes = grid.encode(grid.nearest(weight / torch.exp2(exponents).repeat_interleave(32, 1)))
    packed = Packed("w", "s", torch.float4_e2m1fn_x2, tuple(weight.shape), (1, 32), torch.uint8)
    return packed, {"w": codes[:, 0::2] | codes[:, 1::2] << 4, "s": (exponents + 127).to(torch.uint8)}


if __name__ == "__main__":
    main()
