"""The figures of where the prompts lie and how far the edit moves them: histograms, map, strengths, KL by token."""

import math
from typing import TYPE_CHECKING, Any, Final

from abliterate.reports.canvas import (
    ANSWERED,
    INK,
    MARK,
    QUIET,
    REFUSED,
    WIDTH,
    Plot,
    blank,
    layer_ticks,
    legend,
    sheet,
    signed,
)
from abliterate.reports.geometry import Cloud, Histogram
from abliterate.reports.record import RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["activation_map", "histogram_grid", "histogram_svg", "kl_by_token", "steadiness", "strengths"]

_COLUMNS: Final = 5


def histogram_svg(histogram: Histogram, described: str) -> str:
    """One layer's histogram as a small `<svg>`, answered above the line and refused below it.

    Drawn by hand: a page holds one for every layer. The colours are those of the page's style sheet.

    Args:
        histogram: of one layer.
        described: what a reader who cannot see it is told.
    """
    top = max(*histogram.refused, *histogram.answered, 1)
    bars = []
    for kind, counts, sign in (("answered", histogram.answered, -1), ("refused", histogram.refused, 1)):
        parts = []
        for i, count in enumerate(counts):
            if count:
                parts.append(f"M{10 * i + 0.5:g} 50v{sign * round(46 * count / top, 1):g}h9V50z")
        bars.append(f'<path class="{kind}" d="{"".join(parts)}"/>')
    width = 10 * len(histogram.refused)
    axis = f'<path class="axis" d="M0 50H{width}"/>'
    return f'<svg viewBox="0 0 {width} 100" role="img" aria-label="{described}">{"".join(bars)}{axis}</svg>'


def _histogram_grid(record: RunRecord) -> "Figure | None":
    """Every layer's histogram, small, with one scale of counts each."""
    if record.geometry is None or not record.geometry.histograms:
        return None
    shown = record.geometry.histograms
    rows = math.ceil(len(shown) / _COLUMNS)
    figure = blank(WIDTH, 0.6 + 0.85 * rows)
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    for axes, histogram in zip(grid.flat, shown, strict=False):
        _small(axes, histogram, chosen=record.chosen is not None and histogram.layer == record.geometry.layer)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    legend(figure, grid.flat[0])
    place = signed(record.geometry.position)
    figure.supxlabel(f"projection at position {place} on each layer's difference of means", fontsize=9)
    return figure


def _small(axes: "Axes", histogram: Histogram, *, chosen: bool) -> None:
    bins = len(histogram.refused)
    width = (histogram.high - histogram.low) / bins
    centres = [histogram.low + (i + 0.5) * width for i in range(bins)]
    axes.bar(centres, histogram.answered, width, color=ANSWERED, label="answered")
    axes.bar(centres, [-n for n in histogram.refused], width, color=REFUSED, label="refused")
    axes.axhline(0, color=INK, lw=0.5)
    axes.set_title(f"layer {histogram.layer}", fontsize=8, color=MARK if chosen else INK, pad=2)
    axes.set_yticks([])
    axes.tick_params(labelsize=6.5, length=2)
    axes.patch.set_visible(False)
    axes.spines[["left", "top", "right"]].set_visible(False)


def _activation_map(record: RunRecord) -> "Figure | None":
    """Prompts by their projection on the chosen direction and on the first principal component of the rest."""
    if record.geometry is None:
        return None
    shown = record.geometry
    figure, axes = sheet(3.6)
    _points(axes, shown.answered, ANSWERED, "answered", "o")
    _points(axes, shown.refused, REFUSED, "refused", "^")
    axes.set_xlabel(f"projection on the direction (layer {shown.layer}, position {signed(shown.position)})")
    axes.set_ylabel("first principal component\nof the rest")
    axes.spines[["top", "right"]].set_visible(False)
    legend(figure, axes)
    return figure


def _points(axes: "Axes", cloud: Cloud, colour: str, name: str, marker: str) -> None:
    """Filled where the prompt did not fit the direction, hollow where it did."""
    cut = len(cloud.x) - cloud.fit
    look: dict[str, Any] = {"ls": "none", "marker": marker, "ms": 5.5, "mec": colour, "mew": 1.0}
    if cut:
        axes.plot(cloud.x[:cut], cloud.y[:cut], mfc=colour, label=name, **look)
    if cloud.fit:
        axes.plot(cloud.x[cut:], cloud.y[cut:], mfc="none", label=f"{name}, fitted the direction", **look)


def _strengths(record: RunRecord) -> "Figure | None":
    """The strength at which each layer's writers were edited; one for all of them today."""
    if record.strength is None:
        return None
    layers = record.model.layers
    figure, axes = sheet(1.6)
    axes.bar(range(layers), [record.strength] * layers, width=0.8, color=QUIET)
    if record.chosen is not None:
        x, y = record.chosen.layer, record.strength
        axes.plot([x], [y], "v", color=MARK, ms=7, label="the direction was read here", ls="none")
    axes.set_xlim(-0.6, layers - 0.4)
    axes.set_ylim(0, max(1.0, record.strength) * 1.15)
    axes.set_xlabel("layer (block, counted from 0)")
    axes.set_ylabel("strength")
    layer_ticks(axes, layers)
    axes.spines[["top", "right"]].set_visible(False)
    legend(figure, axes)
    return figure


def _kl_by_token(record: RunRecord) -> "Figure | None":
    """Mean KL at each token of the unedited model's own answers, with the 95 % interval, edit and random control."""
    looks = {"edited": (INK, "edited"), "random": (QUIET, "random direction")}
    shown = [s for s in record.scores if s.by_token and s.variant in looks]
    if not shown:
        return None
    figure, axes = sheet(2.6)
    for scores in shown:
        colour, name = looks[scores.variant]
        x = range(1, len(scores.by_token) + 1)
        axes.fill_between(
            x, [m.low for m in scores.by_token], [m.high for m in scores.by_token], color=colour, alpha=0.18, lw=0
        )
        axes.plot(x, [m.mean for m in scores.by_token], color=colour, lw=1.5, marker=".", ms=4, label=name)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("token of the answer, counted from 1")
    axes.set_ylabel("KL (nats)")
    axes.spines[["top", "right"]].set_visible(False)
    legend(figure, axes)
    return figure


def _steadiness(record: RunRecord) -> "Figure | None":
    """Cosine between halves of the fit prompts, and held-out separation, by layer at the chosen position."""
    if record.sensitivity is None or record.chosen is None:
        return None
    position = record.chosen.position
    steady = sorted((s.layer, s.cosine, s.least) for s in record.sensitivity.stability if s.position == position)
    if not steady:
        return None
    figure, axes = sheet(2.5)
    layers, means, least = zip(*steady, strict=True)
    axes.fill_between(layers, least, means, color=QUIET, alpha=0.25, lw=0, label="down to the least")
    axes.plot(layers, means, color=QUIET, lw=1.5, marker=".", ms=4, label="cosine of halves, mean")
    held = sorted((s.layer, s.auroc) for s in record.sensitivity.separation if s.position == position)
    if held:
        axes.plot(*zip(*held, strict=True), color=INK, lw=1.5, marker=".", ms=4, label="held-out separation (AUROC)")
    axes.axvline(record.chosen.layer, color=MARK, lw=1.2, label="chosen layer")
    axes.set_xlabel("layer (block whose input is read, counted from 0)")
    axes.set_ylim(top=1.03)
    layer_ticks(axes, record.model.layers)
    axes.spines[["top", "right"]].set_visible(False)
    legend(figure, axes)
    return figure


steadiness = Plot("stability", "Stability of the direction and held-out separation by layer", _steadiness)
histogram_grid = Plot("projections", "Histograms of the projections of both sides, one for each layer", _histogram_grid)
activation_map = Plot("map", "Prompts on the chosen direction and the first component of the rest", _activation_map)
strengths = Plot("strengths", "Strength of the edit by layer", _strengths)
kl_by_token = Plot("kl-by-token", "Mean KL from the unedited model at each token of the answer", _kl_by_token)
