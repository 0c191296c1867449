"""The anatomy of a model of any size, from its configuration alone: found on a twin, told in the real model's sizes."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from abliterate.anatomy.classes import new_model
from abliterate.anatomy.dissect import Anatomy, dissect
from abliterate.anatomy.layout import Layout
from abliterate.anatomy.twin import build_twin
from abliterate.errors import UnsupportedModel


@dataclass(frozen=True)
class Study:
    """What a configuration tells.

    Attributes:
        anatomy: of the real model.
        layout: the names of its writers on disk.
        shapes: of every parameter of the real model, by its name in memory.
        architecture: the class of the model.
    """

    anatomy: Anatomy
    layout: Layout
    shapes: Mapping[str, tuple[int, ...]]
    architecture: str


def study(config: PreTrainedConfig, *, trust_remote_code: bool = False) -> Study:
    """Find the anatomy of the model that a configuration describes, without its weights.

    Raises:
        UnsupportedModel: no twin can be built or understood, or the real model has other parts than its twin.
    """
    twin = build_twin(config, trust_remote_code=trust_remote_code)
    anatomy = dissect(twin)
    with torch.device("meta"):
        real = new_model(config, trust_remote_code=trust_remote_code)
    shapes = {name: tuple(value.shape) for name, value in real.named_parameters(remove_duplicate=False)}
    modules = {name for name, _ in real.named_modules(remove_duplicate=False)}
    needed = {site.name for site in anatomy.sites if site.place != "parameter"} | set(anatomy.blocks)
    named = {writer.parameter for writer in anatomy.writers}
    named |= {gain.parameter for writer in anatomy.writers for gain in writer.gains}
    if lost := sorted((needed - modules) | (named - shapes.keys())):
        raise UnsupportedModel(
            f"{type(real).__name__} of this size has no {lost[0]}, which its small twin has",
            "this architecture is not supported yet; please report its name",
        )
    widths = {shapes[writer.parameter][writer.out_axis] for writer in anatomy.writers} or _widths(twin, anatomy, shapes)
    if len(widths) != 1:
        raise UnsupportedModel(
            f"the writers are of several widths, {sorted(widths)}", "please report this architecture"
        )
    architecture = type(real).__name__
    return Study(replace(anatomy, width=widths.pop()), Layout(twin, anatomy.writers, shapes), shapes, architecture)


def _widths(twin: PreTrainedModel, anatomy: Anatomy, shapes: Mapping[str, tuple[int, ...]]) -> set[int]:
    """The real width where no writer tells it: that of most vectors in the blocks that are as wide in the twin."""
    sizes = Counter(
        shapes[name][0]
        for name, parameter in twin.named_parameters()
        if parameter.shape == (anatomy.width,) and name.startswith(anatomy.blocks)
    )
    return {size for size, _ in sizes.most_common(1)}
