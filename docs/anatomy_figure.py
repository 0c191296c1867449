"""Draws docs/anatomy.png: where gradients are cut, and how far apart writers and all else lie.

`python -m docs.anatomy_figure` from the repository's root; a minute on one core.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from abliterate.anatomy.blocks import Blocks, candidate_blocks, first_tensor, hooked
from abliterate.anatomy.twin import build_twin, twin_inputs
from abliterate.anatomy.writers import RANK_ONE, probe
from abliterate.errors import UnsupportedModel
from benchmarks.configs import default_config

mpl.use("agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

OUT = Path(__file__).with_name("anatomy.png")
KINDS = ("llama", "gpt2", "gemma2", "mixtral", "gpt_oss", "deepseek_v3", "nemotron_h", "bert", "gemma3n_text")
LAYERS = 4
STREAM, WRITE, READ, NORM, OTHER = "#1a1a1a", "#0b6fa4", "#c0392b", "#b9770e", "#999999"


@dataclass
class Ratios:
    """Second over first singular value of the gradients of two probes, for each axis of size d of each parameter.

    Attributes:
        kind: the model type.
        direct: along the direct path, reads cut.
        ordinary: of the same parameters, with the gradient that autograd gives by itself.
        silent: parameters that have no gradient along the direct path.
    """

    kind: str
    direct: list[float]
    ordinary: list[float]
    silent: int


def main() -> None:
    """Measure and draw."""
    torch.set_num_threads(1)
    found = [measure(kind, default_config(kind), compare=True) for kind in KINDS]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 5.2), width_ratios=(1, 1.3), layout="constrained")
    draw_block(left)
    draw_gap(right, [*found, every_type()])
    figure.savefig(OUT, dpi=170)


def every_type() -> Ratios:
    """All causal types of transformers that a twin can be built of, as one row."""
    rows = []
    for kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        try:
            rows.append(measure(kind, default_config(kind), compare=False))
        except UnsupportedModel:
            continue
    return Ratios(
        f"all {len(rows)} types", [x for row in rows for x in row.direct], [], sum(row.silent for row in rows)
    )


def measure(kind: str, config: PreTrainedConfig, *, compare: bool) -> Ratios:
    """Measure one type on a twin."""
    model = build_twin(config, layers=LAYERS)
    blocks = next(candidate_blocks(model, twin_inputs(model)))
    r = torch.nn.functional.normalize(torch.randn(blocks.width, generator=torch.Generator().manual_seed(0)), dim=0)
    direct = [probe(model, blocks, r, seed).gradients for seed in (1, 2)]
    plain = [ordinary_gradients(model, blocks, r, seed) for seed in (1, 2) if compare]
    found = Ratios(kind, [], [], 0)
    for name, _ in model.named_parameters():
        seen = [run[name] for run in direct if name in run]
        if not any(float(g.abs().max()) > 0 for g in seen):
            found.silent += 1
            continue
        found.direct += ratios(seen, blocks.width)
        found.ordinary += ratios([run[name] for run in plain if name in run], blocks.width)
    return found


def ordinary_gradients(model: PreTrainedModel, blocks: Blocks, r: Tensor, seed: int) -> dict[str, Tensor]:
    """Gradients of the same sum over the blocks' outputs, with nothing cut."""
    outputs: list[Tensor] = []

    def leave(module: nn.Module, args: object, output: object) -> None:
        x = first_tensor(output)
        if x is not None:
            outputs.append(x)

    parameters = dict(model.named_parameters())
    with hooked((block, leave) for block in blocks.modules):
        model(**twin_inputs(model, seed=seed), use_cache=False)
    generator = torch.Generator().manual_seed(seed)
    loss = torch.stack([(x @ r * torch.randn(x.shape[:-1], generator=generator)).sum() for x in outputs]).sum()
    values = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {name: g for name, g in zip(parameters, values, strict=True) if g is not None}


def ratios(gradients: Sequence[Tensor], width: int) -> Iterator[float]:
    """One figure for each axis of size d."""
    for axis, size in enumerate(gradients[0].shape if gradients else ()):
        if size == width:
            rows = torch.cat([g.movedim(axis, 0).reshape(size, -1) for g in gradients], dim=1).double()
            values = torch.linalg.svdvals(rows)
            yield float(values[1] / values[0])


def draw_block(axes: Axes) -> None:
    """One block from below to above: solid arrows carry gradients, dashed ones are cut."""
    axes.set(xlim=(0.4, 10.4), ylim=(-0.2, 13.2))
    axes.axis("off")
    axes.set_title("gradients run along solid lines only", fontsize=10)
    arrow(axes, (1.6, 0.7), (1.6, 12.4), STREAM, width=3.5)
    axes.text(0.5, 0, "embedding E[token], a write", color=WRITE, fontsize=9)
    axes.text(1.6, 12.6, "stream x", ha="center", fontsize=9)
    draw_sublayer(axes, 1.7, ("attention", "o_proj W"), "remove u = r", normed=False)
    draw_sublayer(axes, 6.2, ("MLP, experts", "down_proj W"), "remove u = g * r", normed=True)


def draw_sublayer(axes: Axes, base: float, parts: tuple[str, str], removed: str, *, normed: bool) -> None:
    """What reads, the weight that writes, and the norm behind it if there is one."""
    cut(axes, (1.6, base), (5.0, base))
    box(axes, 7.2, base, parts[0], READ)
    arrow(axes, (7.2, base + 0.5), (7.2, base + 1.6), READ, dashed=True)
    box(axes, 7.2, base + 2.1, parts[1], WRITE)
    top = base + 2.1
    if normed:
        arrow(axes, (7.2, top + 0.5), (7.2, top + 1.5), WRITE)
        axes.text(7.5, top + 1, removed, va="center", color=NORM, fontsize=9)
        top += 2.0
        box(axes, 7.2, top, "norm, gain g", NORM)
    else:
        axes.text(3.6, top - 0.35, removed, va="top", ha="center", color=WRITE, fontsize=9)
    arrow(axes, (5.0, top), (1.9, top), WRITE)
    ball = {"boxstyle": "circle,pad=0.12", "fc": STREAM, "ec": STREAM}
    axes.text(1.6, top, "+", ha="center", va="center", fontsize=12, color="white", zorder=5, bbox=ball)
    axes.text(3.6, top + 0.25, "write", ha="center", color=WRITE, fontsize=9)


def arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str,
    *,
    width: float = 1.8,
    dashed: bool = False,
) -> None:
    """An arrow."""
    style = {
        "arrowstyle": "-|>",
        "color": colour,
        "lw": width,
        "ls": "--" if dashed else "-",
        "mutation_scale": 14,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    axes.annotate("", end, start, arrowprops=style)


def cut(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """A read: a dashed arrow with a bar where the gradient ends."""
    arrow(axes, start, end, READ, dashed=True)
    middle = (start[0] + end[0]) / 2
    axes.plot([middle - 0.12, middle + 0.12], [start[1] - 0.3, start[1] + 0.3], color=READ, lw=3)
    axes.text(middle + 0.1, start[1] + 0.45, "read (cut)", ha="center", color=READ, fontsize=9)


def box(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    """A labelled box."""
    axes.text(
        x,
        y,
        text.center(16),
        ha="center",
        va="center",
        fontsize=10,
        color=colour,
        bbox={"boxstyle": "round,pad=0.35", "fc": "white", "ec": colour, "lw": 1.5},
    )


def draw_gap(axes: Axes, found: Sequence[Ratios]) -> None:
    """One row a type, one dot a parameter and axis."""
    shift = np.random.default_rng(0)
    top = len(found) - 0.45
    for row, one in enumerate(reversed(found)):
        for values, colour, centre in ((one.direct, WRITE, 0.13), (one.ordinary, OTHER, -0.2)):
            heights = row + (centre if one.ordinary else 0) + shift.uniform(-0.1, 0.1, len(values))
            axes.scatter(np.maximum(values, 1e-8), heights, s=9, color=colour, alpha=0.6, lw=0)
        axes.text(2, row, str(one.silent), va="center", ha="left", fontsize=9, color=READ)
    axes.text(2, top, "no\ngradient", ha="left", va="bottom", fontsize=9, color=READ)
    axes.axvline(RANK_ONE, color=NORM, lw=1.5)
    axes.text(RANK_ONE * 0.7, top, "rank one: a writer", ha="right", va="bottom", fontsize=9, color=WRITE)
    axes.text(RANK_ONE * 1.4, top, "not of rank one", ha="left", va="bottom", fontsize=9)
    axes.set(xscale="log", xlim=(1e-8, 1.3), ylim=(-0.6, top))
    axes.set_yticks(range(len(found)), [one.kind for one in reversed(found)], fontsize=9)
    axes.set_xlabel("second / first singular value of the gradients of two probes", fontsize=9)
    axes.scatter([], [], s=20, color=WRITE, label="direct path, reads cut")
    axes.scatter([], [], s=20, color=OTHER, label="ordinary gradient, same weights")
    axes.legend(loc="upper center", bbox_to_anchor=(0.42, -0.13), ncols=2, fontsize=9, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
