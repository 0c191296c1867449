"""Where the prompts lie: one more pass over some of the prompts that fitted and chose the direction."""

from collections.abc import Sequence

import torch
from torch import Tensor

from abliterate.capture.batching import run_batched
from abliterate.capture.collect import block_inputs
from abliterate.capture.forward import batch_of, run_decoder
from abliterate.capture.prompts import Label
from abliterate.directions.direction import Direction
from abliterate.reports.geometry import Cloud, Geometry, Histogram
from abliterate.runs.context import Context

SHOWN = 48  # prompts a side
BINS = 24


def geometry(
    run: Context, raw: Tensor, direction: Direction, prompts: dict[Label, tuple[list[str], list[str]]]
) -> Geometry:
    """Histograms of every layer and a map of the chosen one.

    Args:
        run: the model and its chat format.
        raw: differences of means [positions, L, d].
        direction: the chosen one.
        prompts: by label, those that did not fit the direction and those that did; the first are preferred.
    """
    index = run.chat.positions.index(direction.position)
    norms = raw[index].norm(dim=-1)
    units = (raw[index] / norms.clamp_min(1e-30).unsqueeze(-1)).float()  # [L, d]
    used = {label: (held + fitted)[:SHOWN] for label, (held, fitted) in prompts.items()}
    read = {label: _read(run, used[label], units, index, direction.layer) for label in Label}
    refused, answered = (read[label][0] for label in (Label.REFUSED, Label.ANSWERED))
    histograms = [
        _histogram(layer, refused[:, layer], answered[:, layer])
        for layer in range(len(norms))
        if norms[layer] > 0  # a template token's embedding is the same after every prompt
    ]
    x, y, share = plane(torch.cat([read[label][1] for label in Label]), direction.basis[0])
    cut = len(used[Label.REFUSED])
    clouds = {}
    for label, part in zip((Label.REFUSED, Label.ANSWERED), (slice(None, cut), slice(cut, None)), strict=True):
        fitted = max(0, len(used[label]) - len(prompts[label][0]))
        clouds[label] = Cloud(_short(x[part]), _short(y[part]), fitted)
    return Geometry(
        direction.position, direction.layer, histograms, clouds[Label.REFUSED], clouds[Label.ANSWERED], round(share, 4)
    )


def plane(points: Tensor, unit: Tensor) -> tuple[Tensor, Tensor, float]:
    """Coordinates [n] and [n] of points [n, d] on a unit vector [d] and on the first principal component of the rest.

    The third value is the component's share of the variance of the rest. The sign of a component is arbitrary: its
    largest coordinate is made positive.
    """
    points, unit = points.double(), unit.double()
    x = points @ unit
    rest = points - x.unsqueeze(1) * unit
    rest = rest - rest.mean(dim=0)
    _, sizes, axes = torch.linalg.svd(rest, full_matrices=False)
    axis = axes[0] * axes[0][axes[0].abs().argmax()].sign()
    total = float((sizes**2).sum())
    return x, rest @ axis, float(sizes[0] ** 2) / total if total else 0.0


def _read(run: Context, texts: Sequence[str], units: Tensor, index: int, layer: int) -> tuple[Tensor, Tensor]:
    """Projections [n, L] on each layer's unit vector, and the stream [n, d] at one layer."""
    subject, sequences = run.subject, run.chat.encode(texts)
    vectors = units.to(subject.model.device)

    def work(rows: list[int]) -> list[tuple[Tensor, Tensor]]:
        with block_inputs(subject, len(run.chat.positions)) as states:
            run_decoder(subject, batch_of(subject, [sequences[i] for i in rows]))
        at = torch.stack([state[:, index] for state in states], dim=1).float()
        return list(zip(torch.einsum("nld,ld->nl", at, vectors).cpu(), at[:, layer].cpu(), strict=True))

    rows = run_batched(sequences, work, device=subject.model.device, title="geometry", progress=run.progress)
    projected, stream = zip(*rows, strict=True)
    return torch.stack(projected), torch.stack(stream)


def _histogram(layer: int, refused: Tensor, answered: Tensor) -> Histogram:
    both = torch.cat([refused, answered]).double()
    finite = both[both.isfinite()]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    if low == high:  # a bin needs a width
        low, high = low - 0.5, high + 0.5
    counts = [_counts(side.double(), low, high) for side in (refused, answered)]
    return Histogram(layer, _rounded(low), _rounded(high), *counts)


def _counts(values: Tensor, low: float, high: float) -> list[int]:
    inside = values[values.isfinite()]
    bins = ((inside - low) / (high - low) * BINS).long().clamp(0, BINS - 1)
    return [int(n) for n in torch.bincount(bins, minlength=BINS)]


def _short(values: Tensor) -> list[float]:
    return [_rounded(float(v)) for v in values]


def _rounded(value: float) -> float:
    """Four figures: the record stays small, and no plot shows more."""
    return float(f"{value:.4g}")
