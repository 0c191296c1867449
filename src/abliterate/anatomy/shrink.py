"""Shrinking a model's configuration: the real layers and layer kinds, tiny widths (`sizes` says how tiny)."""

import copy
import re
from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedConfig

from abliterate.anatomy.layers import choose_layers, keep_layers
from abliterate.anatomy.sizes import (
    RECIPES,
    TOWER_LAYERS,
    TOWER_WIDTH,
    VOCABULARY,
    Recipe,
    apart,
    is_int,
    multiple,
    resized,
    rotated,
)

TOWERS = re.compile(r"vision|audio|vq|sam|protein|high_res|speech|image")  # paths of parts that are not text
TOKENS = re.compile(
    r"\w+_token_(id|index|ids|indices)|im_(start|end|newline)_id|image_patch_id|(unk|mask|pad|bos|eos)_index"
    r"|(begin_)?suppress_tokens"
)


def shrink(config: PreTrainedConfig, *, layers: int | None = None, recipe: Recipe = RECIPES[0]) -> PreTrainedConfig:
    """A copy of `config` with tiny widths, a small vocabulary and few experts; the original is not touched.

    Args:
        config: of any size.
        layers: keep only so many layers, chosen to keep the variety of their kinds; None keeps them all.
        recipe: how far to shrink.
    """
    small = copy.deepcopy(config)
    text = text_config(small)
    parts = list(walk(small))
    towers = {id(part) for path, part in parts if part is not text and TOWERS.search(path)}
    links = _links([(part, id(part) in towers) for _, part in parts], hidden_size_of(text), recipe)
    for _, part in parts:
        tower = id(part) in towers
        overrides = per_layer_overrides(part)
        if overrides:
            part.per_layer_config = None
        count = TOWER_LAYERS if tower else layers
        if count is not None:
            chosen = choose_layers(part, overrides, count)
            overrides = {chosen.index(number): overrides[number] for number in chosen if number in overrides}
            keep_layers(part, chosen)
        if recipe.towers or not tower:
            overrides = _apply(part, overrides, links, recipe)
        if overrides:
            part.per_layer_config = dict[int | str, dict[str, Any]](overrides.items())
    _place_tokens(parts)
    for _, part in parts:
        if hasattr(part, "quantization_config"):
            del part.quantization_config
    return small


def walk(config: PreTrainedConfig, path: str = "") -> Iterator[tuple[str, PreTrainedConfig]]:
    """The configuration and its nested ones, with dotted paths; the outermost has the path ''."""
    yield path, config
    for key, value in list(vars(config).items()):
        if isinstance(value, PreTrainedConfig) and not key.startswith("_"):
            yield from walk(value, f"{path}.{key}" if path else key)


def text_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """The part that describes the text decoder."""
    try:
        return config.get_text_config()
    except ValueError:  # there is an encoder and a decoder of text
        return config.get_text_config(decoder=True)


def hidden_size_of(config: PreTrainedConfig) -> int | None:
    """The width under any of its names, or None."""
    value = getattr(config, "hidden_size", None)
    return value if is_int(value) else None


def per_layer_overrides(config: PreTrainedConfig) -> dict[int, dict[str, Any]]:
    """What some layers have different from the rest, by layer number (transformers' `per_layer_config`)."""
    if not getattr(config, "is_heterogeneous", False):
        return {}
    return {int(number): dict(values) for number, values in config.to_dict()["per_layer_config"].items()}


def special_tokens(config: PreTrainedConfig) -> set[int]:
    """Token ids with a meaning (padding, end, image places), over the whole configuration."""
    values = [value for _, part in walk(config) for key, value in vars(part).items() if TOKENS.fullmatch(key)]
    flat = [item for value in values for item in (value if isinstance(value, list | tuple) else [value])]
    return {item for item in flat if is_int(item)}


def _links(parts: list[tuple[PreTrainedConfig, bool]], text_width: int | None, recipe: Recipe) -> dict[int, int]:
    """New widths by old ones. The text width becomes d; other text widths keep their ratio to it."""
    widths = [(size, tower) for part, tower in parts if (size := hidden_size_of(part))]
    reference = text_width or max((size for size, tower in widths if not tower), default=recipe.width)
    d = recipe.width or _two_heads(parts, reference)
    links = {size: TOWER_WIDTH if tower else multiple(size, reference, d) for size, tower in sorted(widths)}
    return links | {reference: d}


def _two_heads(parts: list[tuple[PreTrainedConfig, bool]], reference: int) -> int:
    """The width of two of the original heads."""
    sizes = [rotated(vars(part)) for part, _ in parts if hidden_size_of(part) == reference]
    return 2 * next((size for size in sizes if size), 128)


def _apply(
    part: PreTrainedConfig, overrides: dict[int, dict[str, Any]], links: dict[int, int], recipe: Recipe
) -> dict[int, dict[str, Any]]:
    """Shrink one part in place, and return its layers' own values shrunk."""
    old = {key: value for key, value in vars(part).items() if not key.startswith("_")}
    width = hidden_size_of(part)
    if "num_attention_heads" in old and not hasattr(part, "head_dim") and "qk_rope_head_dim" not in old:
        old["head_dim"] = None  # many classes read it where it is given and divide the width where it is not
    new = resized(old, width, links, recipe)
    small: dict[int, dict[str, Any]] = {}
    for number, values in overrides.items():
        own = resized(old | values, width, links, recipe)
        small[number] = {
            key: apart(key, (old.get(key), value), (new.get(key), own[key])) for key, value in values.items()
        }
    for key, value in new.items():
        if value is not old[key] and value != old[key]:
            setattr(part, key, value)
    return small


def _place_tokens(parts: list[tuple[str, PreTrainedConfig]]) -> None:
    """Ids beyond the vocabulary are moved into it: distinct ones, from its end."""
    taken = special_tokens(parts[0][1])
    free = (number for number in range(VOCABULARY - 1, 0, -1) if number not in taken)
    moved: dict[int, int] = {}

    def place(value: Any) -> Any:  # noqa: ANN401 - an id, a list of ids or None
        if isinstance(value, list | tuple):
            return type(value)(place(item) for item in value)
        if not is_int(value) or value < VOCABULARY:
            return value
        if value not in moved:
            moved[value] = next(free)
        return moved[value]

    for _, part in parts:
        for key, value in list(vars(part).items()):
            if TOKENS.fullmatch(key) and value is not None:
                setattr(part, key, place(value))
