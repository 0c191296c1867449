"""Shrinking a model's configuration: the real layers and layer kinds, tiny widths.

The rules know configuration KEYS and the values beside them, no model names. The sizes are chosen so that the width d
of the residual stream differs from every other size that the architecture does not tie to it: whatever has an axis of
length d then reads, writes or scales the stream.
"""

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

from transformers import PreTrainedConfig

from abliterate.anatomy.layers import choose_layers, keep_layers

WIDTH = 64  # d
VOCABULARY = 160
POSITIONS = 96
HEADS = 4
HEAD_DIM = 48  # times 1/8, 1/4, 1/2 (partial rotary factors) it stays even; times 4, 2 and 1 heads it is not d
TOWER_LAYERS = 2  # of a vision or audio tower

Number = int | float
Rule = Callable[[int], int]


def _exactly(size: int) -> Rule:
    return lambda value: size if value > 0 else value


def _at_most(size: int) -> Rule:
    return lambda value: min(value, size)


# (keys, new value, why). The first pattern that matches the whole key decides; zero and None switch a part off and stay.
SIZES: tuple[tuple[str, Rule, str], ...] = (
    # -- vocabulary and positions: tables that would be most of the memory
    (r"(\w+_)?vocab_size\w*|vocab_size_per_layer_input|encoder_hash_byte_group_vocab", _at_most(VOCABULARY), "tables"),
    (r"ngram_vocab_size_base", _at_most(VOCABULARY), "tables"),
    (r"split_ngram_parts|make_ngram_vocab_size_divisible_by", _at_most(2), "tables are cut into such parts"),
    (
        r"max_position_embeddings|n_positions|n_ctx|max_seq_len|max_(source|target|2d)_position\w*",
        _at_most(POSITIONS),
        "",
    ),
    (r"model_max_length|context_length|position_embedding_size|seq_len", _at_most(POSITIONS), ""),
    # -- attention
    (r"index_n_heads|index_num_heads", _at_most(HEADS), ""),
    (r"linear_num_key_heads", _at_most(2), "value heads are a multiple of key heads"),
    (r"(linear_)?num_(value_)?heads|linear_num_value_heads", _at_most(HEADS), ""),
    (r"(\w+_)?head_dim|\w*attention_head_(dim|size)|d_kv|d_head|dim_head|kv_channels", _exactly(HEAD_DIM), ""),
    (r"sliding_window(_size)?|attention_window_size|local_attention|window_size|attention_chunk_size", _at_most(8), ""),
    (r"keep_window_size|local_attention_window_len|index_topk|rel_extent", _at_most(8), "shorter than the probe"),
    (r"index_block_size|index_topk_blocks", _at_most(4), "several blocks in the probe"),
    (r"canvas_length", _at_most(16), ""),
    # -- low ranks: all different, none of them d
    (r"q_lora_rank", _at_most(28), ""),
    (r"kv_lora_rank", _at_most(36), ""),
    (r"o_lora_rank", _at_most(20), ""),
    (r"mamba_dt_rank|time_step_rank", _at_most(10), ""),
    (r"adapter_rank|laurel_rank|gated_norm_rank|hc_lowrank|d_rel", _at_most(12), ""),
    (r"router_hidden_size", _at_most(20), ""),
    (r"hidden_size_per_layer_input|ple_embed_dim", _at_most(24), ""),
    # -- experts
    (r"(num|n)_group|n_expert_group|num_expert_group|o_groups", _at_most(2), ""),
    (r"topk_group", _at_most(1), "fewer than the groups"),
    (r"(n_routed|num|num_local|moe_num)_experts", _at_most(4), "two in each of two groups"),
    (r"zero_expert_num", _at_most(2), ""),
    (r"(n|num)_shared_experts?|moe_num_shared_experts", _at_most(2), ""),
    (r"num_experts_per_tok(en)?|moe_topk|moe_top_k|moe_k|top_k_experts|num_experts_per_topk", _at_most(2), ""),
    (r"moe_intermediate_size|expert_ffn_hidden_size|moe_hidden_size|expert_intermediate_size", _exactly(40), ""),
    (r"(moe_)?shared_experts?_intermediate_size|share_expert_dim|shared_intermediate_size", _exactly(56), ""),
    # -- feed-forward
    (r"(\w+_)?intermediate_size(_mlp)?|(encoder_|decoder_)?ffn_dim|n_inner|d_ff|dff|dim_ff", _exactly(112), ""),
    (r"ffn_hidden_size|d_inner|feed_forward_size|mlp_dim|prompt_mid_dim", _exactly(112), ""),
    # -- recurrences
    (r"state_size|ssm_state_size|mamba_d_state", _at_most(12), ""),
    (r"mamba_d_head|mamba_head_dim|mamba_headdim", _at_most(16), ""),
    (r"n_groups|mamba_n_groups|mamba_ngroups", _at_most(2), ""),
    (r"linear_key_head_dim", _exactly(16), ""),
    (r"linear_value_head_dim|linear_head_dim", _exactly(24), ""),
    (r"(mamba_)?chunk_size", _at_most(8), "padding to a chunk is most of the work"),
    (r"ffn_round_up_to_multiple_of|block_multiple_of", _at_most(8), ""),
    # -- towers
    (r"projector_hidden_size|alignment_intermediate_size|merged_hidden_size|downsample_hidden_size", _exactly(72), ""),
    (r"num_position_embeddings", _at_most(16), "a square"),
)
# Sizes that are set as a multiple of the hidden size in the original stay that multiple.
RATIOS = (
    r"attention_hidden_size|lru_width|word_embed_proj_dim|embedding_size|(input|output)_embedding_size"
    r"|hidden_size_global|backbone_hidden_size|mamba_d_ssm"
)
HEAD_KEYS = re.compile(
    r"(num_|n_|encoder_|decoder_|num_encoder_|num_decoder_|swa_num_)?attention_heads(_per_layer)?"
    r"|n_heads?|num_sliding_attention_heads"
)
KV_KEYS = re.compile(r"(swa_num_|num_|num_global_)?key_value_heads|kv_n_heads|num_kv_heads|num_query_groups")
WIDTH_KEYS = re.compile(r"hidden_size|d_model|n_embd|embed_dim|embedding_dim|emb_dim|dim|input_size")
# Widths of a tower or connector that lead into the text model; kept equal to the text width where they were.
LINKED_KEYS = re.compile(r"\w*(hidden_size|hidden_dim|output_dim|out_dim|projection_dim|out_hidden_size)")
LAYER_KEYS = re.compile(r"(num_hidden_|num_|n_|encoder_|decoder_|num_encoder_|num_decoder_)?layers?|depth")
TEXTLESS = re.compile(r"vision|audio|vq|sam|protein|high_res|speech|image|mm_")
SPECIAL_TOKEN = re.compile(
    r"\w+_token_(id|index)s?|(im|eod|image_patch|im_\w+)_id|(unk|mask|pad|bos|eos|boi|eoi|boa|eoa)_(index|token_index)"
    r"|begin_suppress_tokens|suppress_tokens|visual_indicator_token_ids"
)


def shrink(config: PreTrainedConfig, *, layers: int | None = None, gentle: int = 0) -> PreTrainedConfig:
    """A copy of `config` with tiny widths, a small vocabulary and few experts; the original is not touched.

    Args:
        config: of any size.
        layers: keep only so many layers, chosen to keep the variety of their kinds; None keeps them all.
        gentle: 0 shrinks everything. 1 keeps the heads' sum equal to the width where it was. 2 leaves towers and
            connectors (vision, audio) as wide as they are.
    """
    small = copy.deepcopy(config)
    text = text_config(small)
    width = hidden_size_of(text)
    for path, part in walk(small):
        is_text = part is text or not TEXTLESS.search(path)
        if is_text:
            count = layers
        else:
            count = TOWER_LAYERS
        _keep(part, count)
        if is_text or gentle < 2:
            _shrink_part(part, width, gentle)
    _place_tokens(small)
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
    except ValueError:  # an encoder and a decoder of text
        return getattr(config, "decoder", None) or config


def hidden_size_of(config: PreTrainedConfig) -> int | None:
    """The width under any of its names, or None."""
    value = getattr(config, "hidden_size", None)
    return value if isinstance(value, int) else None


def special_tokens(config: PreTrainedConfig) -> set[int]:
    """Token ids with a meaning (padding, end, image places), over the whole configuration."""
    found: set[int] = set()
    for _, part in walk(config):
        for key, value in vars(part).items():
            if SPECIAL_TOKEN.fullmatch(key):
                found.update(item for item in (value if isinstance(value, list | tuple) else [value]) if _is_int(item))
    return found


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _keep(part: PreTrainedConfig, count: int | None) -> None:
    if count is None:
        return
    keep_layers(part, choose_layers(part, count))


def _shrink_part(part: PreTrainedConfig, text_width: int | None, gentle: int) -> None:
    old = {key: value for key, value in vars(part).items() if not key.startswith("_")}
    width = hidden_size_of(part)
    new: dict[str, Any] = {}
    for key, value in old.items():
        if isinstance(value, list | tuple) and value and all(_is_int(item) for item in value):
            sizes = [_new_size(key, item, width, text_width, old) for item in value]
            new[key] = type(value)(sizes)
        elif _is_int(value):
            new[key] = _new_size(key, value, width, text_width, old)
    _settle(part, old, new, gentle)
    for key, value in new.items():
        if value != old.get(key):
            setattr(part, key, value)
    _rotary(part, old)


def _new_size(key: str, value: int, width: int | None, text_width: int | None, old: dict[str, Any]) -> int:
    if value <= 0:
        return value
    if WIDTH_KEYS.fullmatch(key) or (LINKED_KEYS.fullmatch(key) and value in (width, text_width)):
        return WIDTH
    if width and re.fullmatch(RATIOS, key):
        return max(4, round(value / width * WIDTH))
    if HEAD_KEYS.fullmatch(key):
        return min(value, HEADS)
    if KV_KEYS.fullmatch(key):
        return _kv_heads(value, old)
    for pattern, rule, _ in SIZES:
        if re.fullmatch(pattern, key):
            return rule(value)
    return value


def _kv_heads(value: int, old: dict[str, Any]) -> int:
    """As many as heads where it was so, one where it was one, otherwise half of the heads."""
    heads = [item for key, item in old.items() if HEAD_KEYS.fullmatch(key) and _is_int(item)]
    if value == 1:
        return 1
    return HEADS if value in heads else 2


def _settle(part: PreTrainedConfig, old: dict[str, Any], new: dict[str, Any], gentle: int) -> None:
    """Sizes that follow from others."""
    width = hidden_size_of(part)
    if gentle and width and "head_dim" in new:
        new["head_dim"] = WIDTH // HEADS
    if "qk_rope_head_dim" in new:
        new["qk_rope_head_dim"] = 8
        if "qk_nope_head_dim" in new:
            new["qk_nope_head_dim"] = 16
        if "v_head_dim" in new:
            new["v_head_dim"] = 20
        if "qk_head_dim" in new:
            new["qk_head_dim"] = new.get("qk_nope_head_dim", 0) + 8
        if _is_int(old.get("head_dim")):
            if old["head_dim"] == old["qk_rope_head_dim"]:
                new["head_dim"] = 8
            elif old["head_dim"] == old.get("qk_head_dim"):
                new["head_dim"] = new["qk_head_dim"]
    for heads, size in (
        ("mamba_n_heads", "mamba_d_head"),
        ("mamba_num_heads", "mamba_head_dim"),
        ("n_mamba_heads", "mamba_headdim"),
        ("num_heads", "head_dim"),
    ):
        expand = old.get("mamba_expand", old.get("expand"))
        if heads in new and size in new and expand:
            new[size] = 16
            inner = new.get("mamba_d_ssm") or int(expand * WIDTH)
            new[heads] = inner // 16
    if "rotary_dim" in new:
        new["rotary_dim"] = min(new["rotary_dim"], 8)
    if "axial_pos_shape" in new:
        new["axial_pos_shape"] = (8, POSITIONS // 8)
        new["axial_pos_embds_dim"] = (WIDTH // 4, WIDTH - WIDTH // 4)


def _rotary(part: PreTrainedConfig, old: dict[str, Any]) -> None:
    """Sections and factor lists of rotary embeddings, which have one entry a pair of rotated channels."""
    parameters = getattr(part, "rope_parameters", None)
    if not isinstance(parameters, dict):
        return
    before, after = _head_dim(old), _head_dim(vars(part))
    if not before or not after:
        return
    nested = [value for value in parameters.values() if isinstance(value, dict)]
    for rope in nested or [parameters]:
        for key, value in list(rope.items()):
            if isinstance(value, list | tuple) and len(value) > 1 and all(isinstance(v, int | float) for v in value):
                if key.endswith("_section") or key == "mrope_section":
                    rope[key] = type(value)(_sections(list(value), sum(value) * after // before))
                elif len(value) * after % before == 0 or len(value) > 3:
                    rope[key] = type(value)(value[: max(1, len(value) * after // before)])


def _sections(values: list[Any], total: int) -> list[int]:
    """Scale sections to a total, each at least one where there is room."""
    scaled = [max(1, int(value * total / sum(values))) for value in values]
    scaled[-1] += total - sum(scaled)
    return scaled


def _head_dim(values: dict[str, Any]) -> int | None:
    for key in ("qk_rope_head_dim", "head_dim"):
        if _is_int(values.get(key)):
            return int(values[key])
    width, heads = values.get("hidden_size"), values.get("num_attention_heads")
    return width // heads if _is_int(width) and _is_int(heads) and width and heads else None


def _place_tokens(config: PreTrainedConfig) -> None:
    """Token ids that fell out of the vocabulary are moved into it: distinct ones, from its end."""
    moved: dict[int, int] = {}
    taken = special_tokens(config)
    free = (number for number in range(VOCABULARY - 1, 0, -1) if number not in taken)

    def place(value: Any) -> Any:  # noqa: ANN401 - an id, a list of ids or None
        if isinstance(value, list | tuple):
            return type(value)(place(item) for item in value)
        if not _is_int(value) or value < VOCABULARY:
            return value
        if value not in moved:
            moved[value] = next(free)
        return moved[value]

    for _, part in walk(config):
        for key, value in list(vars(part).items()):
            if SPECIAL_TOKEN.fullmatch(key) and value is not None:
                setattr(part, key, place(value))
