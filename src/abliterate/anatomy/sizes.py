"""How large each size of a twin is, by the KEY under which a configuration holds it and the values beside it.

No rule knows a model's name. The sizes are chosen so that the width d of the residual stream differs from every other
size that the architecture does not tie to it: what has an axis of length d then reads, writes or scales the stream.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

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
# Another part's width.
LINKS = re.compile(r"\w*(hidden_size|hidden_dim|output_dim|out_dim|in_dim|projection_dim|input_size)")


def apart(key: str, old: tuple[Any, Any], new: tuple[Any, Any]) -> Any:  # noqa: ANN401 - any value
    """The second of two shrunken values, kept different from the first where they were, in the same ratio.

    Args:
        key: under which both are held.
        old: the two values in the original.
        new: the two as the rules shrink them, one by one.
    """
    if not all(map(is_int, (*old, *new))) or old[0] == old[1] or new[0] != new[1] or not old[0]:
        return new[1]
    step = 2 if HEADS.fullmatch(key) and new[0] > 2 else 1  # so that it stays a multiple of the key-value heads
    return max(1, round(new[0] * old[1] / old[0] / step) * step)


def resized(old: dict[str, Any], width: int | None, links: dict[int, int], recipe: Recipe) -> dict[str, Any]:
    """New values of one part's keys.

    Args:
        old: the values of one part of a configuration.
        width: its hidden size.
        links: new widths of all parts by their old ones; keys that hold another part's width follow it.
        recipe: how far to shrink.
    """
    new: dict[str, Any] = dict(old)
    for key, value in old.items():
        if is_int(value):
            new[key] = _resize(key, value, old, width, links, recipe)
        elif isinstance(value, list | tuple) and value and all(is_int(item) for item in value):
            small = [_resize(key, item, old, width, links, recipe) for item in value]
            first = value.index(min(value))
            new[key] = type(value)(
                apart(key, (value[first], v), (small[first], n)) for v, n in zip(value, small, strict=True)
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
        return multiple(value, width, links[width]) if width else links.get(value, value)
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
            if is_int(old.get(key)):
                new[key] = round(old[key] * ROTATED / rope)
        new["v_head_dim"] = ROTATED * 5 // 2
    elif rope and recipe.head_dim and head:
        new["qk_rope_head_dim"] = new["head_dim"] * rope // head
    elif d:
        for key, value in old.items():
            tied = recipe.tied and is_int(value) and not any(re.fullmatch(pattern, key) for pattern, _ in SIZES)
            if HEAD_DIMS.fullmatch(key) and tied:
                new[key] = d // recipe.heads
        if "head_dim" in old and head is None:
            new["head_dim"] = d // recipe.heads if recipe.tied else recipe.head_dim
    if is_int(old.get("rotary_dim")):
        new["rotary_dim"] = min(old["rotary_dim"], ROTATED)
    if "axial_pos_shape" in old and d:
        new["axial_pos_shape"] = (8, POSITIONS // 8)
        new["axial_pos_embds_dim"] = (d // 4, d - d // 4)


def _settle_recurrence(old: Mapping[str, Any], new: dict[str, Any], d: int | None) -> None:
    """Heads of a state-space layer fill its inner width."""
    expand = old.get("mamba_expand", old.get("expand"))
    pairs = (("mamba_n_heads", "mamba_d_head"), ("mamba_num_heads", "mamba_head_dim"), ("num_heads", "head_dim"))
    for heads, size in (*pairs, ("n_mamba_heads", "mamba_headdim")):
        if expand and d and is_int(old.get(heads)) and is_int(old.get(size)):
            new[size] = 16
            new[heads] = (new.get("mamba_d_ssm") or int(expand * d)) // 16


def _rotary(parameters: dict[str, Any], old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary settings of the smaller heads: sections and factor lists have an entry for each pair of channels."""
    if any(isinstance(value, dict) for value in parameters.values()):  # by kind of layer
        return {
            key: _rotary(value, old, new) if isinstance(value, dict) else value for key, value in parameters.items()
        }
    result = dict(parameters)
    before, after = rotated(old), rotated(new)
    if not before or not after:
        return result
    for key, value in parameters.items():
        if key.endswith("_section") and isinstance(value, list | tuple):
            result[key] = type(value)(_sections(list(value), round(sum(value) * after / before)))
        elif key.endswith("_factor") and isinstance(value, list | tuple):
            result[key] = type(value)(value[: max(1, len(value) * after // before)])
    return result


def rotated(values: Mapping[str, Any]) -> int | None:
    """Size of the head, or of the part of it, that rotary settings speak of."""
    for key in ("qk_rope_head_dim", "head_dim"):
        if is_int(values.get(key)):
            return int(values[key])
    width, heads = (
        next((value for key, value in values.items() if keys.fullmatch(key) and is_int(value)), 0)
        for keys in (WIDTHS, HEADS)
    )
    return width // heads if heads else None


def _sections(values: list[int], total: int) -> list[int]:
    """Scale sections to a total."""
    scaled = [int(value * total / sum(values)) for value in values]
    scaled[0] += total - sum(scaled)
    return scaled


def is_int(value: object) -> bool:
    """Whether it is a number to count with, and not a switch."""
    return isinstance(value, int) and not isinstance(value, bool)


def multiple(size: int, reference: int, d: int) -> int:
    """`size` in the proportion of d to `reference`, a multiple of 8."""
    return max(8, round(size / reference * d / 8) * 8)
