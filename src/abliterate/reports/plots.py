"""The figures of what was sought and what came of it: candidates, separation, outcomes.

Nothing of the record but numbers gets
into a figure: letters that the font lacks could not spoil it, and there is nothing to escape.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from abliterate.directions.select import Candidate
from abliterate.evals.scores import Outcomes
from abliterate.reports.canvas import ANSWERED, INK, MARK, QUIET, REFUSED, Plot, layer_ticks, legend, sheet, signed
from abliterate.reports.record import RunRecord, Variant

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["candidate_map", "outcome_bars", "separation_by_layer"]

TOO_DEEP: Final = "too deep"  # the verdict that `directions.select` gives to the excluded layers

# Letters on these colours of Tol's bright scheme are dark or white.
_OUTCOMES: Final = {
    "refused": (REFUSED, "#111111"),
    "complied": (ANSWERED, "#ffffff"),
    "evasive": ("#ccbb44", "#111111"),
    "broken": ("#bbbbbb", "#111111"),
}
_VARIANTS: Final[dict[Variant, str]] = {
    "unedited": "unedited",
    "edited": "edited",
    "random": "random direction",
    "shuffled": "shuffled labels",
}
_LEVELS: Final = 48  # matplotlib draws the colour bar of more than 50 as a bitmap


def _candidate_map(record: RunRecord) -> "Figure | None":
    """Every candidate at its layer and position, coloured by what its ablation does to refusals.

    The colour is the refusal score under ablation, from the full measurement where there is one and else from the
    screening. When no candidate was scored it is the separation. Excluded layers are hatched.
    """
    if not record.candidates:
        return None
    scored = any(_score(c) is not None for c in record.candidates)
    value = _score if scored else _separation
    positions = sorted({c.position for c in record.candidates})
    rows = {position: row for row, position in enumerate(positions)}
    layers = max(record.model.layers, *(c.layer + 1 for c in record.candidates))
    figure, axes = sheet(1.75 + 0.3 * len(positions))
    _cells(figure, axes, record.candidates, value, rows, layers, scored=scored)
    _excluded(axes, record.candidates, len(positions))
    _marks(axes, record, rows)
    axes.set_xlim(-0.5, layers - 0.5)
    axes.set_ylim(len(positions) - 0.5, -0.5)
    axes.set_yticks(range(len(positions)), [signed(p) for p in positions])
    axes.set_xlabel("layer (block whose input is read, counted from 0)")
    axes.set_ylabel("position\n(tokens from the end)")
    layer_ticks(axes, layers)
    legend(figure, axes)
    return figure


def _outcome_bars(record: RunRecord) -> "Figure | None":
    """What each variant did with the report prompts of each label, in per cent, with the 95 % interval of refusals."""
    groups = _groups(record)
    bars = [bar for _, group in groups for bar in group]
    if not bars:
        return None
    figure, axes = sheet(1.05 + 0.36 * (bars[-1][0] + 1))
    for title, group in groups:
        axes.text(0, group[0][0] - 0.85, title, va="center", ha="left", fontweight="bold")
    for y, _, outcomes in bars:
        _stack(axes, y, outcomes)
        _interval(axes, y, outcomes)
    axes.set_yticks([y for y, _, _ in bars], [name for _, name, _ in bars])
    axes.set_ylim(bars[-1][0] + 0.6, -1.5)
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the completions (%)")
    axes.tick_params(left=False)
    axes.spines[["left", "top", "right"]].set_visible(False)
    legend(figure, axes)
    return figure


def _separation_by_layer(record: RunRecord) -> "Figure | None":
    """How well each layer's projection tells refused from answered select prompts, one line for each position."""
    points = [(c.position, c.layer, c.separation) for c in record.candidates if math.isfinite(c.separation)]
    if not points:
        return None
    chosen = _chosen(record)
    figure, axes = sheet(2.5)
    for position in sorted({p for p, _, _ in points}):
        line = sorted((layer, value) for p, layer, value in points if p == position)
        bold = chosen is not None and position == chosen[0]
        look: dict[str, Any] = {"color": INK, "lw": 1.8, "zorder": 3} if bold else {"color": QUIET, "lw": 0.9}
        label = f"position {signed(position)}, the chosen one" if bold else "other positions"
        axes.plot(*zip(*line, strict=True), label=label, marker=".", markersize=4 if bold else 2.5, **look)
    for _, layer, value in (p for p in points if chosen is not None and p[:2] == chosen):
        axes.plot([layer], [value], "o", ms=9, mfc="none", mec=MARK, mew=2, zorder=4, label="chosen", ls="none")
    axes.axhline(0.5, color=QUIET, lw=0.8, ls=(0, (2, 3)))
    axes.set_ylim(min(0.45, min(value for _, _, value in points) - 0.03), 1.03)
    axes.set_xlim(-0.5, max(record.model.layers, *(layer + 1 for _, layer, _ in points)) - 0.5)
    axes.set_xlabel("layer (block whose input is read, counted from 0)")
    axes.set_ylabel("separation (AUROC)")
    layer_ticks(axes, record.model.layers)
    axes.spines[["top", "right"]].set_visible(False)
    legend(figure, axes)
    return figure


# --- the map ---


def _score(c: Candidate) -> float | None:
    """The refusal score under ablation, measured in full or else screened."""
    for value in (c.bypass, c.screen):
        if value is not None and math.isfinite(value):
            return value
    return None


def _separation(c: Candidate) -> float | None:
    return c.separation if math.isfinite(c.separation) else None


def _chosen(record: RunRecord) -> tuple[int, int] | None:
    return None if record.chosen is None else (record.chosen.position, record.chosen.layer)


def _cells(
    figure: "Figure",
    axes: "Axes",
    candidates: Sequence[Candidate],
    value: Callable[[Candidate], float | None],
    rows: dict[int, int],
    layers: int,
    *,
    scored: bool,
) -> None:
    import matplotlib
    import numpy

    grid = numpy.full((len(rows), layers), numpy.nan)
    for c in candidates:
        measured = value(c)
        if measured is not None:
            grid[rows[c.position], c.layer] = measured
    # Dark is where the direction acts: the lowest refusal score, or the highest separation.
    mesh = axes.pcolormesh(
        numpy.arange(layers + 1) - 0.5,
        numpy.arange(len(rows) + 1) - 0.5,
        numpy.ma.masked_invalid(grid),
        cmap=matplotlib.colormaps["cividis" if scored else "cividis_r"].resampled(_LEVELS),
        antialiased=False,  # else the page shines through between the cells
        linewidth=0,
    )
    title = "refusal score under ablation (log-odds)" if scored else "separation (AUROC)"
    bar = figure.colorbar(mesh, ax=axes, location="bottom", shrink=0.55, aspect=45, pad=0.04)
    bar.set_label(title)
    if bar.solids is not None:
        bar.solids.set_edgecolor("face")  # else the page shines through between the levels
    bar.outline.set_visible(False)


def _excluded(axes: "Axes", candidates: Sequence[Candidate], height: int) -> None:
    from matplotlib.patches import Rectangle

    for first, last in _runs(sorted({c.layer for c in candidates if c.verdict == TOO_DEEP})):
        axes.add_patch(
            Rectangle(
                (first - 0.5, -0.5),
                last - first + 1,
                height,
                facecolor="none",
                edgecolor=QUIET,
                hatch="////",
                linewidth=0,
                label="excluded: too deep",
            )
        )


def _runs(layers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The stretches of consecutive numbers in a sorted sequence."""
    start = 0
    for i in range(len(layers)):
        if i + 1 == len(layers) or layers[i + 1] != layers[i] + 1:
            yield layers[start], layers[i]
            start = i + 1


def _marks(axes: "Axes", record: RunRecord, rows: dict[int, int]) -> None:
    from matplotlib.patches import Rectangle

    full = [c for c in record.candidates if c.bypass is not None]
    if full and len(full) < len(record.candidates):
        axes.plot(
            [c.layer for c in full],
            [rows[c.position] for c in full],
            "o",
            ms=3.5,
            mfc="#ffffff",
            mec="#111111",
            mew=0.6,
            label="measured on all select prompts",
        )
    chosen = _chosen(record)
    if chosen is not None and chosen[0] in rows:
        corner = (chosen[1] - 0.5, rows[chosen[0]] - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=MARK, linewidth=2.4, label="chosen", zorder=5))


# --- the bars ---


Bar = tuple[float, str, Outcomes]  # height, name, counts


def _groups(record: RunRecord) -> list[tuple[str, list[Bar]]]:
    """A title and its bars for each label that has prompts, with room for the title between the groups."""
    groups: list[tuple[str, list[Bar]]] = []
    y = 0.0
    for label, counts in (
        ("refused", [(s.variant, s.refused) for s in record.scores]),
        ("answered", [(s.variant, s.answered) for s in record.scores]),
    ):
        group = [(y + i, _VARIANTS[variant], outcomes) for i, (variant, outcomes) in enumerate(counts) if outcomes.n]
        if group:
            groups.append((f"prompts expected to be {label} (n = {group[0][2].n})", group))
            y = group[-1][0] + 2.4
    return groups


def _stack(axes: "Axes", y: float, outcomes: Outcomes) -> None:
    left = 0.0
    for name, (colour, letters) in _OUTCOMES.items():
        rate = getattr(outcomes, name)
        share = 100 * rate.rate
        axes.barh(y, share, left=left, height=0.72, color=colour, label=name)
        # The whisker crosses the end of the refusals; a number there would be struck through.
        if share >= 6:
            axes.text(left + share / 2, y, str(rate.count), ha="center", va="center", color=letters)
        left += share


def _interval(axes: "Axes", y: float, outcomes: Outcomes) -> None:
    rate = outcomes.refused
    low, high = 100 * rate.low, 100 * rate.high
    axes.plot([low, high], [y, y], color="#111111", lw=1.4, solid_capstyle="butt")
    axes.vlines([low, high], y - 0.16, y + 0.16, color="#111111", lw=1.4)
    text = f"{100 * rate.rate:.1f} % [{low:.1f}, {high:.1f}] refused"
    axes.annotate(text, (1, y), (8, 0), ("axes fraction", "data"), textcoords="offset points", va="center")


candidate_map = Plot("candidates", "Heat map of the candidate directions by layer and token position", _candidate_map)
outcome_bars = Plot("outcomes", "Stacked bars of the outcomes of each variant on the report prompts", _outcome_bars)
separation_by_layer = Plot("separation", "Separation of refused from answered prompts by layer", _separation_by_layer)
