"""Shrinking a model's configuration: the real layers and layer kinds, tiny widths.

The rules know configuration KEYS and the values beside them, no model names. The sizes are chosen so that the width d
of the residual stream differs from every other size that the architecture does not tie to it: what has an axis of
length d then reads, writes or scales the stream.
"""

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig

from abliterate.anatomy.layers import choose_layers, keep_layers

VOCABULARY = 160
POSITIONS = 96
TOWER_LAYERS = 2  # of a vision or audio tower
TOWER_WIDTH = 48


@dataclass(frozen=True)
class Recipe:
    """How far to shrink.

    Attributes:
        width: d.
        heads: of attention.
        head_dim: where the configuration gives it; None keeps the size of a head as it is.
        tied: `head_dim` is width / heads even where the configuration could say otherwise.
        towers: vision and audio parts are made narrow too, not only shallow.
    """

    width: int = 64
    heads: int = 4
    head_dim: int | None = 48  # an even number of pairs at rotary factors 1/8, 1/4, 1/2; times 4, 2 or 1 heads not d
    tied: bool = False
    towers: bool = True


RECIPES = (
    Recipe(),
    Recipe(tied=True),  # classes that divide the width by the heads, whatever `head_dim` says
    Recipe(width=0, heads=2, head_dim=None),  # classes with constants that fit one size of head; 0: two real heads
    Recipe(towers=False),  # towers whose sizes depend on each other
)

Rule = Callable[[int], int]


def _exactly(size: int) -> Rule:
    return lambda value: size


def _at_most(size: int) -> Rule:
    return lambda value: min(value, size)


# The first pattern that matches the whole key decides. Zero and None, which switch a part off, stay.
SIZES: tuple[tuple[str, Rule], ...] = (
    # Tables, which would be most of the memory.
    (r"(\w+_)?vocab_size\w*|encoder_hash_byte_group_vocab|ngram_vocab_size_base", _at_most(VOCABULARY)),
    (r"split_ngram_parts|make_ngram_vocab_size_divisible_by", _at_most(2)),
    (r"max_position_embeddings|n_positions|n_ctx|max_seq_len|max_(source|target|2d)_position\w*", _at_most(POSITIONS)),
    (r"model_max_length|context_length|position_embedding_size|seq_len", _at_most(POSITIONS)),
    (r"num_position_embeddings", _at_most(16)),  # a square
    (r"(vision_)?feature_layers?", _at_most(TOWER_LAYERS - 1)),
    # Windows shorter than the probe, chunks that it is not padded to, blocks of which it holds several.
    (r"sliding_window(_size)?|attention_window_size|local_attention|window_size|attention_chunk_size", _at_most(8)),
    (r"keep_window_size|local_attention_window_len|index_topk|rel_extent|indexer_budget", _at_most(8)),
    (r"index_block_size|index_topk_blocks|indexer_compress_ratio|index_kpool", _at_most(4)),
    (r"(mamba_)?chunk_size|block_size|ffn_round_up_to_multiple_of|block_multiple_of", _at_most(8)),
    (r"canvas_length", _at_most(16)),
    # Low ranks, states and inner widths: all different, none of them d.
    (r"q_lora_rank", _at_most(28)),
    (r"kv_lora_rank", _at_most(36)),
    (r"o_lora_rank|router_hidden_size", _at_most(20)),
    (r"mamba_dt_rank|time_step_rank", _at_most(10)),
    (r"adapter_rank|laurel_rank|gated_norm_rank|hc_lowrank|d_rel", _at_most(12)),
    (r"state_size|ssm_state_size|mamba_d_state", _at_most(12)),
    (r"mamba_d_head|mamba_head_dim|mamba_headdim|linear_key_head_dim", _at_most(16)),
    (r"linear_value_head_dim|linear_head_dim|hidden_size_per_layer_input", _at_most(24)),
    (r"(linear_)?num_heads|linear_num_value_heads|index_n_heads|indexer_n_heads", _at_most(4)),
    (r"linear_num_key_heads|n_groups|mamba_n_groups|mamba_ngroups|o_groups", _at_most(2)),
    (r"moe_intermediate_size|expert_ffn_hidden_size|moe_hidden_size|expert_intermediate_size", _exactly(40)),
    (r"(moe_)?shared_experts?_intermediate_size|share_expert_dim|shared_intermediate_size", _exactly(56)),
    (r"(\w+_)?intermediate_size(_mlp)?|(encoder_|decoder_)?ffn_dim|n_inner|d_ff|dff|dim_ff", _exactly(112)),
    (r"ffn_hidden_size|d_inner|feed_forward_size|mlp_dim|prompt_mid_dim", _exactly(112)),
    (r"projector_hidden_size|merged_hidden_size|downsample_hidden_size", _exactly(72)),
    # Experts: two in each of two groups, of which two are chosen.
    (r"(n_routed|num|num_local|moe_num)_experts", _at_most(4)),
    (r"n_group|num_expert_group", _at_most(2)),
    (r"topk_group", _exactly(1)),
    (r"zero_expert_num|(n|num|moe_num)_shared_experts?", _at_most(2)),
    (r"num_experts_per_tok(en)?|moe_topk|moe_top_k|moe_k|top_k_experts", _at_most(2)),
    (r"num_centroids|centroid_intermediate_top_k", _at_most(4)),
)
# Multiples of the hidden size, kept so.
MULTIPLES = re.compile(
    r"attention_hidden_size|lru_width|word_embed_proj_dim|embedding_size|(input|output)_embedding_size"
    r"|hidden_size_global|mamba_d_ssm|ple_embed_dim"
)
HEADS = re.compile(
    r"(num_|n_|encoder_|decoder_|num_encoder_|num_decoder_|swa_num_|num_sliding_)?attention_heads(_per_layer)?"
    r"|n_heads?"
)
KV_HEADS = re.compile(r"(swa_num_|num_|num_global_)?key_value_heads|kv_n_heads|num_kv_heads|num_query_groups")
HEAD_DIMS = re.compile(
    r"(\w+_)?head_dim|\w*attention_head_(dim|size)|d_kv|d_head|dim_head|kv_channels|high_res_head_dim"
)
ROTATED = 8  # channels of a head that is rotated in part
WIDTHS = re.compile(r"hidden_size|d_model|n_embd|embed_dim|embedding_dim|emb_dim")
LINKS = re.compile(r"\w*(hidden_size|hidden_dim|output_dim|out_dim|in_dim|projection_dim|input_size)")  # one part's in another
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
            part.per_layer_config = overrides
    _place_tokens(parts)
    if hasattr(small, "quantization_config"):
        del small.quantization_config
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
    return value if _is_int(value) else None


def per_layer_overrides(config: PreTrainedConfig) -> dict[int, dict[str, Any]]:
    """What some layers have different from the rest, by layer number (transformers' `per_layer_config`)."""
    if not getattr(config, "is_heterogeneous", False):
        return {}
    return {int(number): dict(values) for number, values in config.to_dict()["per_layer_config"].items()}


def special_tokens(config: PreTrainedConfig) -> set[int]:
    """Token ids with a meaning (padding, end, image places), over the whole configuration."""
    values = [value for _, part in walk(config) for key, value in vars(part).items() if TOKENS.fullmatch(key)]
    flat = [item for value in values for item in (value if isinstance(value, list | tuple) else [value])]
    return {item for item in flat if _is_int(item)}


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _links(parts: list[tuple[PreTrainedConfig, bool]], text_width: int | None, recipe: Recipe) -> dict[int, int]:
    """New widths by old ones. The text width becomes d; other text widths keep their ratio to it."""
    widths = [(size, tower) for part, tower in parts if (size := hidden_size_of(part))]
    reference = text_width or max((size for size, tower in widths if not tower), default=recipe.width)
    d = recipe.width or _two_heads(parts, reference)
    links = {size: TOWER_WIDTH if tower else _multiple(size, reference, d) for size, tower in sorted(widths)}
    return links | {reference: d}


def _two_heads(parts: list[tuple[PreTrainedConfig, bool]], reference: int) -> int:
    """The width of two of the original heads."""
    sizes = [_rotated(vars(part)) for part, _ in parts if hidden_size_of(part) == reference]
    return 2 * next((size for size in sizes if size), 128)


def _multiple(size: int, reference: int, d: int) -> int:
    return max(8, round(size / reference * d / 8) * 8)


def _apply(
    part: PreTrainedConfig, overrides: dict[int, dict[str, Any]], links: dict[int, int], recipe: Recipe
) -> dict[int, dict[str, Any]]:
    """Shrink one part in place, and return its layers' own values shrunk."""
    old = {key: value for key, value in vars(part).items() if not key.startswith("_")}
    width = hidden_size_of(part)
    if "num_attention_heads" in old and not hasattr(part, "head_dim") and "qk_rope_head_dim" not in old:
        old["head_dim"] = None  # many classes read it where it is given and divide the width where it is not
    new = _resized(old, width, links, recipe)
    small: dict[int, dict[str, Any]] = {}
    for number, values in overrides.items():
        own = _resized(old | values, width, links, recipe)
        small[number] = {
            key: _apart(key, (old.get(key), value), (new.get(key), own[key])) for key, value in values.items()
        }
    for key, value in new.items():
        if value is not old[key] and value != old[key]:
            setattr(part, key, value)
    return small


def _apart(key: str, old: tuple[Any, Any], new: tuple[Any, Any]) -> Any:  # noqa: ANN401 - any value
    """The second of two shrunken values, kept different from the first where they were, in the same ratio."""
    if not all(map(_is_int, (*old, *new))) or old[0] == old[1] or new[0] != new[1] or not old[0]:
        return new[1]
    step = 2 if HEADS.fullmatch(key) and new[0] > 2 else 1  # so that it stays a multiple of the key-value heads
    return max(1, round(new[0] * old[1] / old[0] / step) * step)


def _resized(old: dict[str, Any], width: int | None, links: dict[int, int], recipe: Recipe) -> dict[str, Any]:
    """New values of one part's keys."""
    new: dict[str, Any] = dict(old)
    for key, value in old.items():
        if _is_int(value):
            new[key] = _resize(key, value, old, width, links, recipe)
        elif isinstance(value, list | tuple) and value and all(_is_int(item) for item in value):
            small = [_resize(key, item, old, width, links, recipe) for item in value]
            first = value.index(min(value))
            new[key] = type(value)(
                _apart(key, (value[first], v), (small[first], n)) for v, n in zip(value, small, strict=True)
            )
        elif key == "compress_rates":  # tokens that are merged, by kind of layer
            new[key] = {kind: min(rate, 8) for kind, rate in value.items()}
    _settle_heads(old, new, links.get(width or 0), recipe)
    _settle_recurrence(old, new, links.get(width or 0))
    if isinstance(old.get("rope_parameters"), dict):
        new["rope_parameters"] = _rotary(old["rope_parameters"], old, new)
    return new


def _resize(
    key: str, value: int, old: Mapping[str, Any], width: int | None, links: dict[int, int], recipe: Recipe
) -> int:
    if value <= 0:
        return value
    if WIDTHS.fullmatch(key):
        return links.get(value, TOWER_WIDTH)
    if MULTIPLES.fullmatch(key):
        return _multiple(value, width, links[width]) if width else links.get(value, value)
    if HEADS.fullmatch(key):
        return min(value, recipe.heads)
    if KV_HEADS.fullmatch(key):
        heads = [item for name, item in old.items() if HEADS.fullmatch(name)]
        return 1 if value == 1 else recipe.heads if value in heads else recipe.heads // 2
    for pattern, rule in SIZES:
        if re.fullmatch(pattern, key):
            return rule(value)
    if HEAD_DIMS.fullmatch(key):
        return recipe.head_dim or value
    if LINKS.fullmatch(key):
        return links.get(value, value)
    return value


def _settle_heads(old: Mapping[str, Any], new: dict[str, Any], d: int | None, recipe: Recipe) -> None:
    """Sizes of heads that follow from others."""
    rope, head = old.get("qk_rope_head_dim"), old.get("head_dim")
    if rope and recipe.head_dim and "qk_nope_head_dim" in old:  # one ratio, so that sums and fractions hold
        for key in ("qk_rope_head_dim", "qk_nope_head_dim", "qk_head_dim", "head_dim"):
            if _is_int(old.get(key)):
                new[key] = round(old[key] * ROTATED / rope)
        new["v_head_dim"] = ROTATED * 5 // 2
    elif rope and recipe.head_dim and head:
        new["qk_rope_head_dim"] = new["head_dim"] * rope // head
    elif d:
        for key, value in old.items():
            tied = recipe.tied and _is_int(value) and not any(re.fullmatch(pattern, key) for pattern, _ in SIZES)
            if HEAD_DIMS.fullmatch(key) and tied:
                new[key] = d // recipe.heads
        if "head_dim" in old and head is None:
            new["head_dim"] = d // recipe.heads if recipe.tied else recipe.head_dim
    if _is_int(old.get("rotary_dim")):
        new["rotary_dim"] = min(old["rotary_dim"], ROTATED)
    if "axial_pos_shape" in old and d:
        new["axial_pos_shape"] = (8, POSITIONS // 8)
        new["axial_pos_embds_dim"] = (d // 4, d - d // 4)


def _settle_recurrence(old: Mapping[str, Any], new: dict[str, Any], d: int | None) -> None:
    """Heads of a state-space layer fill its inner width."""
    expand = old.get("mamba_expand", old.get("expand"))
    pairs = (("mamba_n_heads", "mamba_d_head"), ("mamba_num_heads", "mamba_head_dim"), ("num_heads", "head_dim"))
    for heads, size in (*pairs, ("n_mamba_heads", "mamba_headdim")):
        if expand and d and _is_int(old.get(heads)) and _is_int(old.get(size)):
            new[size] = 16
            new[heads] = (new.get("mamba_d_ssm") or int(expand * d)) // 16


def _rotary(parameters: dict[str, Any], old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary settings of the smaller heads: sections and factor lists have an entry for each pair of channels."""
    if any(isinstance(value, dict) for value in parameters.values()):  # by kind of layer
        return {
            key: _rotary(value, old, new) if isinstance(value, dict) else value for key, value in parameters.items()
        }
    result = dict(parameters)
    before, after = _rotated(old), _rotated(new)
    if not before or not after:
        return result
    for key, value in parameters.items():
        if key.endswith("_section") and isinstance(value, list | tuple):
            result[key] = type(value)(_sections(list(value), round(sum(value) * after / before)))
        elif key.endswith("_factor") and isinstance(value, list | tuple):
            result[key] = type(value)(value[: max(1, len(value) * after // before)])
    return result


def _rotated(values: Mapping[str, Any]) -> int | None:
    """Size of the head, or of the part of it, that rotary settings speak of."""
    for key in ("qk_rope_head_dim", "head_dim"):
        if _is_int(values.get(key)):
            return int(values[key])
    width, heads = (
        next((value for key, value in values.items() if keys.fullmatch(key) and _is_int(value)), 0)
        for keys in (WIDTHS, HEADS)
    )
    return width // heads if heads else None


def _sections(values: list[int], total: int) -> list[int]:
    """Scale sections to a total."""
    scaled = [int(value * total / sum(values)) for value in values]
    scaled[0] += total - sum(scaled)
    return scaled


def _place_tokens(parts: list[tuple[str, PreTrainedConfig]]) -> None:
    """Ids beyond the vocabulary are moved into it: distinct ones, from its end."""
    taken = special_tokens(parts[0][1])
    free = (number for number in range(VOCABULARY - 1, 0, -1) if number not in taken)
    moved: dict[int, int] = {}

    def place(value: Any) -> Any:  # noqa: ANN401 - an id, a list of ids or None
        if isinstance(value, list | tuple):
            return type(value)(place(item) for item in value)
        if not _is_int(value) or value < VOCABULARY:
            return value
        if value not in moved:
            moved[value] = next(free)
        return moved[value]

    for _, part in parts:
        for key, value in list(vars(part).items()):
            if TOKENS.fullmatch(key) and value is not None:
                setattr(part, key, place(value))
