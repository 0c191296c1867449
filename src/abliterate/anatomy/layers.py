"""Choosing a few layers of a configuration that keep the variety of all of them.

A configuration says which layer is of which kind in four ways: a list with one entry a layer, a list of layer numbers,
a threshold (the first k layers, the last k layers), and a period with an offset.
"""

import re
from collections import Counter
from typing import Any

from transformers import PreTrainedConfig

NUMBERS = re.compile(  # lists of layer numbers
    r"mlp_only_layers|cross_attention_layers|moe_layers|full_attn_idxs|hybrid_layer_ids|(\w+_)?layer_ids"
    r"|rope_scaling_layers|\w+_indexes|\w+_indices|attn_layer_indices|dense_layers|full_attention_layers"
)
FIRST = ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index", "n_dense_layers", "first_k_dense")
LAST = ("num_kv_shared_layers",)
UPTO = ("moe_layer_end_index",)  # the last layer that has it
FROM_ONE = ("ple_layer_ids",)  # numbers of layers that start at 1
SOURCES = ("kv_source_layers",)  # an entry a layer: the number of another layer
PERIODS = {  # period: its offset
    "attn_layer_period": "attn_layer_offset",
    "expert_layer_period": "expert_layer_offset",
    "full_attention_interval": None,
    "full_attn_interval": None,
    "moe_layer_freq": None,
    "moe_layer_interval": None,
    "decoder_sparse_step": None,
    "interleave_moe_layer_step": None,
    "no_rope_layer_interval": None,
    "sliding_window_pattern": None,
    "global_attn_every_n_layers": None,
    "layer_group_size": None,
    "n_layers_per_attn_res_block": None,
    "cross_layer_interval": None,
    "cross_attention_frequency": None,
}
COUNTS = (
    "num_hidden_layers",
    "decoder_layers",
    "encoder_layers",
    "num_decoder_layers",
    "num_encoder_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "depth",
    "layers",
    "num_layers_per_stack",
    "num_blocks",
    "conf_num_hidden_layers",
)


def count_key(config: PreTrainedConfig) -> str | None:
    """The key under which the number of layers is stored."""
    values = vars(config)
    name = config.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    return next((key for key in (name, *COUNTS) if isinstance(values.get(key), int) and values[key] > 0), None)


def choose_layers(config: PreTrainedConfig, overrides: dict[int, dict[str, Any]], count: int) -> list[int]:
    """Numbers of `count` layers, ascending: the first, then whichever shows most that was not seen, then evenly.

    Args:
        config: one part of a configuration.
        overrides: what single layers have different from the rest.
        count: of layers to keep.
    """
    total = _total(config)
    own = [{(key, str(value)) for key, value in overrides.get(number, {}).items()} for number in range(total)]
    properties = [frozenset(_properties(config, number, total) | own[number]) for number in range(total)]
    chosen: list[int] = []
    seen: set[tuple[str, Any]] = set()
    kinds: Counter[frozenset[tuple[str, Any]]] = Counter()
    while len(chosen) < min(count, total):
        rest = [number for number in range(total) if number not in chosen]
        best = max(rest, key=lambda n: (n == 0, len(properties[n] - seen), -kinds[properties[n]], -n))
        chosen.append(best)
        seen |= properties[best]
        kinds[properties[best]] += 1
    return sorted(chosen)


def keep_layers(config: PreTrainedConfig, chosen: list[int]) -> None:
    """Reduce one part of a configuration to those layers, in place."""
    total = _total(config)
    if not total or len(chosen) == total:
        return
    values = {key: value for key, value in vars(config).items() if not key.startswith("_")}
    for key, value in values.items():
        if isinstance(value, list | tuple):
            setattr(config, key, _kept_list(key, value, chosen, total))
        elif isinstance(value, int) and not isinstance(value, bool):
            setattr(config, key, _kept_number(key, value, chosen, total))
    for key, offset in PERIODS.items():
        if offset and isinstance(values.get(key), int) and isinstance(values.get(offset), int):
            setattr(config, offset, values[offset] * getattr(config, key) // values[key])
    if not _sources_are_kept(config):
        config.num_kv_shared_layers = 0
    if isinstance(values.get("attention_types"), list) and "attention_layers" in values:
        config.attention_types = [[list(config.attention_layers), 1]]


def _sources_are_kept(config: PreTrainedConfig) -> bool:
    """Whether each kind of layer that takes its keys and values from an earlier one still has such a layer."""
    shared, kinds = getattr(config, LAST[0], None), getattr(config, "layer_types", None)
    if not isinstance(shared, int) or not shared or not isinstance(kinds, list):
        return True
    return set(kinds[-shared:]) <= set(kinds[:-shared])


def _kept_list(key: str, value: Any, chosen: list[int], total: int) -> Any:  # noqa: ANN401 - a list or a tuple
    if key in SOURCES:
        return type(value)(chosen.index(value[n]) if value[n] in chosen else chosen.index(n) for n in chosen)
    if NUMBERS.fullmatch(key):
        first = 1 if key in FROM_ONE else 0
        return type(value)(chosen.index(n - first) + first for n in value if n - first in chosen)
    return type(value)(value[n] for n in chosen) if len(value) == total else value


def _kept_number(key: str, value: int, chosen: list[int], total: int) -> int:
    if key in COUNTS:
        return min(value, len(chosen))
    if key in FIRST:
        return sum(n < value for n in chosen)
    if key in UPTO and value >= 0:
        return max(0, sum(n <= value for n in chosen) - 1)
    if key in LAST:
        return sum(n >= total - value for n in chosen)
    if key in PERIODS and value > 1:
        return min(value, max(2, len(chosen)))  # both kinds occur once at least
    return value


def _total(config: PreTrainedConfig) -> int:
    key = count_key(config)
    if key is not None:
        return int(getattr(config, key))
    count = getattr(config, "num_hidden_layers", None)
    return count if isinstance(count, int) else 0


def _properties(config: PreTrainedConfig, number: int, total: int) -> set[tuple[str, Any]]:
    """What the configuration says of one layer, as (key, value) pairs."""
    found: set[tuple[str, Any]] = set()
    for key, value in vars(config).items():
        if key.startswith("_"):
            continue
        if key in SOURCES:
            found.add((key, value[number] == number))
        elif isinstance(value, list | tuple) and NUMBERS.fullmatch(key):
            found.add((key, number + (key in FROM_ONE) in value))
        elif isinstance(value, list | tuple) and len(value) == total:
            found.add((key, str(value[number])))
        elif key in FIRST and isinstance(value, int):
            found.add((key, number < value))
        elif key in LAST and isinstance(value, int):
            found.add((key, number >= total - value))
    return found
