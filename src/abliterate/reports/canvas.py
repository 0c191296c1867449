"""A sheet to draw on: one style, and a figure as SVG inside a page, as SVG on its own, or as PNG.

Lines and letters take the colour of the text around them inside a page, so a figure is readable on a light and on a
dark one. The same record gives the same bytes.
"""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from abliterate.reports.record import RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Stands for the colour of the surrounding text, which matplotlib cannot express; `_embedded` puts `currentColor` there.
INK: Final = "#010203"
QUIET: Final = "#8a8f98"  # readable on white and on near-black
MARK: Final = "#e8590c"
REFUSED: Final = "#ee6677"  # Tol's bright scheme, which stays distinct for every common colour blindness
ANSWERED: Final = "#4477aa"
WIDTH: Final = 7.6  # inches; at the width of the page's text, 9 points are set as about 12 pixels
_FONTS: Final = "system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
_DPI: Final = 200


@dataclass(frozen=True)
class Plot:
    """A figure that a record can give. Called with a record it gives SVG to stand inside a page.

    Attributes:
        name: of the file, and prefix of every id in the SVG.
        description: what the figure is, in one phrase.
        draw: gives None where the record holds nothing to draw.
    """

    name: str
    description: str
    draw: "Callable[[RunRecord], Figure | None]"

    def __call__(self, record: RunRecord) -> str:
        """An `<svg>` element that scales to its page; empty when there is nothing to draw."""
        svg = self._saved(record, "svg").decode()
        return _embedded(svg, self.name, self.description) if svg else ""

    def svg(self, record: RunRecord) -> bytes:
        """An SVG file; empty when there is nothing to draw."""
        return re.sub(rb"\s*<metadata>.*?</metadata>", b"", self._saved(record, "svg"), flags=re.DOTALL)

    def png(self, record: RunRecord) -> bytes:
        """A PNG file on white, 1520 pixels wide; empty when there is nothing to draw."""
        return self._saved(record, "png")

    def _saved(self, record: RunRecord, kind: str) -> bytes:
        with style():
            drawn = self.draw(record)
            if drawn is None:
                return b""
            if kind == "png":
                drawn.patch.set_visible(True)
            buffer = io.BytesIO()
            metadata = {"Date": None} if kind == "svg" else {"Software": None}
            drawn.savefig(buffer, format=kind, metadata=metadata, dpi=_DPI)
            return buffer.getvalue()


def signed(number: int) -> str:
    """A number with a proper minus."""
    return str(number).replace("-", "−")


def layer_ticks(axes: "Axes", layers: int) -> None:
    """Ticks at whole layers, at most twenty."""
    step = next((s for s in (1, 2, 5, 10, 20) if layers / s <= 20), 50)
    axes.set_xticks(range(0, layers, step))


def legend(figure: "Figure", axes: "Axes") -> None:
    """Above the plot, each name once."""
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    if unique:
        figure.legend(unique.values(), unique.keys(), loc="outside upper center", ncols=4, frameon=False)


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's own defaults and these, whatever the user's matplotlibrc says; restored afterwards."""
    import matplotlib.style

    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": "abliterate",
        "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so the layout is the same everywhere
        "font.size": 9,
        "axes.labelsize": 9,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "legend.fontsize": 8.5,
        "axes.linewidth": 0.8,
        "hatch.linewidth": 0.7,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    }
    with matplotlib.style.context(["default", settings]):
        yield


def sheet(height: float) -> tuple["Figure", "Axes"]:
    """A figure of the page's width and this height in inches, without a ground, and its axes."""
    figure = blank(WIDTH, height)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    return figure, axes


def blank(width: float, height: float) -> "Figure":
    """A figure of this size in inches, without a ground."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_visible(False)
    return figure


def _embedded(svg: str, name: str, description: str) -> str:
    """The figure as an element that shares no id or style with its page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = svg.replace("*{", f"#{name} *{{").replace(INK, "currentColor").replace("'DejaVu Sans'", _FONTS)
    svg = re.sub(r"<svg\b([^>]*?) width=\"[^\"]*\"", r"<svg\1", svg, count=1)
    svg = re.sub(r"<svg\b([^>]*?) height=\"[^\"]*\"", r"<svg\1", svg, count=1)
    opening = f'<svg id="{name}" role="img" aria-label="{description}"'
    return svg.replace("<svg", opening, 1).strip() + "\n"
