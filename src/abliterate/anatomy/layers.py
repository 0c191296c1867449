"""Choosing a few layers of a configuration that keep the variety of all of them.

A configuration says which layer is of which kind in four ways: a list with one entry a layer, a list of layer numbers,
a threshold (the first k layers, the last k layers), and a period with an offset.
"""

import re
from typing import Any

from transformers import PreTrainedConfig

NUMBERS = re.compile(  # lists of layer numbers
    r"mlp_only_layers|cross_attention_layers|moe_layers|full_attn_idxs|hybrid_layer_ids|(\w+_)?layer_ids"
    r"|rope_scaling_layers|\w+_indexes|\w+_indices|attn_layer_indices|dense_layers|full_attention_layers"
)
FIRST = ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index", "n_dense_layers", "first_k_dense")
LAST = ("num_kv_shared_layers",)
UPTO = ("moe_layer_end_index",)  # the last layer that has it
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
    "n_layer",
    "n_layers",
    "num_layers",
    "depth",
    "layers",
)
COUNTS += ("num_encoder_layers", "num_decoder_layers", "num_layers_per_stack", "num_blocks", "conf_num_hidden_layers")


def count_key(config: PreTrainedConfig) -> str | None:
    """The key under which the number of layers is stored."""
    values = vars(config)
    name = config.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    return next((key for key in (name, *COUNTS) if isinstance(values.get(key), int) and values[key] > 0), None)


def choose_layers(config: PreTrainedConfig, count: int) -> list[int]:
    """Numbers of `count` layers, ascending, that between them show as many layer properties as possible."""
    total = _total(config)
    properties = [_properties(config, number, total) for number in range(total)]
    chosen: list[int] = []
    seen: set[tuple[str, Any]] = set()
    kinds: set[frozenset[tuple[str, Any]]] = set()
    while len(chosen) < min(count, total):
        rest = [number for number in range(total) if number not in chosen]
        best = max(rest, key=lambda n: (n == 0, len(properties[n] - seen), properties[n] not in kinds, -n))
        chosen.append(best)
        seen |= properties[best]
        kinds.add(properties[best])
    return sorted(chosen)


def keep_layers(config: PreTrainedConfig, chosen: list[int]) -> None:
    """Reduce the configuration to those layers, in place."""
    total = _total(config)
    if not total or len(chosen) == total:
        return
    for key, value in list(vars(config).items()):
        if key.startswith("_"):
            continue
        if isinstance(value, list | tuple) and NUMBERS.fullmatch(key):
            setattr(config, key, type(value)(chosen.index(item) for item in value if item in chosen))
        elif isinstance(value, list | tuple) and len(value) == total:
            setattr(config, key, type(value)(value[number] for number in chosen))
        elif isinstance(value, int) and key in FIRST:
            setattr(config, key, sum(number < value for number in chosen))
        elif isinstance(value, int) and key in UPTO:
            setattr(config, key, max(0, sum(number <= value for number in chosen) - 1) if value >= 0 else value)
        elif isinstance(value, int) and key in LAST:
            setattr(config, key, sum(number >= total - value for number in chosen))
        elif isinstance(value, int) and key in PERIODS and value > 1:
            period = min(value, max(2, len(chosen) // 2))
            setattr(config, key, period)
            offset = PERIODS[key]
            if offset and isinstance(getattr(config, offset, None), int):
                setattr(config, offset, getattr(config, offset) * period // value)
        elif key in COUNTS and isinstance(value, int) and not isinstance(value, bool):
            setattr(config, key, min(value, len(chosen)))
    if isinstance(getattr(config, "attention_types", None), list) and hasattr(config, "attention_layers"):
        config.attention_types = [[list(config.attention_layers), 1]]


def _total(config: PreTrainedConfig) -> int:
    key = count_key(config)
    if key is not None:
        return int(getattr(config, key))
    count = getattr(config, "num_hidden_layers", None)
    return count if isinstance(count, int) else 0


def _properties(config: PreTrainedConfig, number: int, total: int) -> frozenset[tuple[str, Any]]:
    """What the configuration says of one layer, as (key, value) pairs."""
    found: set[tuple[str, Any]] = set()
    for key, value in vars(config).items():
        if key.startswith("_"):
            continue
        if isinstance(value, list | tuple) and NUMBERS.fullmatch(key):
            found.add((key, number in value))
        elif isinstance(value, list | tuple) and len(value) == total:
            found.add((key, str(value[number])))
        elif key in FIRST and isinstance(value, int):
            found.add((key, number < value))
        elif key in LAST and isinstance(value, int):
            found.add((key, number >= total - value))
    return frozenset(found)
