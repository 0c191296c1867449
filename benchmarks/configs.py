"""Default configurations of every model type, completed where the defaults describe no model."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import CONFIG_MAPPING

from abliterate.anatomy.shrink import text_config

# What every checkpoint of a type has in its configuration and the defaults leave out.
ROPE = {"full_attention": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [24, 20, 20]}}
HALF_ROTARY = {
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [8, 12, 12],
        "partial_rotary_factor": 0.5,
    }
}
INDEXER = {
    "indexer_n_heads": 16,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 128,
    "indexer_budget": 2048,
    "indexer_compress_ratio": 16,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.25},
}
MISSING: dict[str, dict[str, Any]] = {
    "chameleon": {"vocabulary_map": {"<image>": 8711, "IMGIMGA~": 4, "IMGIMGB~": 5}},
    "cohere_compass": {"text_config": {"rope_parameters": ROPE}},
    "cohere_compass_text": {"rope_parameters": ROPE},
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "clip_qkv": 8.0}},
    "deepseek_ocr2": {"text_config": {"mlp_layer_types": ["dense"] + ["sparse"] * 31, "num_experts_per_tok": 6}},
    "deepseek_v2": {"num_experts_per_tok": 6},
    "diffusion_gemma": {"text_config": {"num_experts": 128, "top_k_experts": 8, "moe_intermediate_size": 704}},
    "dots1": {"n_routed_experts": 128, "n_shared_experts": 2, "num_experts_per_tok": 6},
    "gemma4_assistant": {"text_config": {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}},
    "glm46v": {"text_config": HALF_ROTARY},
    "glm4v": {"text_config": HALF_ROTARY},
    "glm4v_moe": {"text_config": HALF_ROTARY | {"head_dim": 128}},
    "glmga": {"text_config": HALF_ROTARY},
    "granite4_vision": {"deepstack_layer_map": [[-1, 0]], "downsample_rate": "4/8"},
    "hunyuan_vl": {"text_config": {"rope_parameters": {"rope_type": "default", "mrope_section": [16, 16, 16, 16]}}},
    "lfm2_moe": {"layer_types": ["conv", "conv", "full_attention", "conv"] * 8},
    "nemotron": {"num_key_value_heads": 8},
    "ovis2": {"hidden_size": 4096},
    "qwen2_5_omni_thinker": {"text_config": {"num_attention_heads": 28, "num_key_value_heads": 4}},
    "qwen4_exp": {"text_config": INDEXER},
    "qwen4_exp_text": INDEXER,
    "step3p7": {"text_config": {"sliding_window": 512}},
    "xmod": {"default_language": "en_XX"},
}


def default_config(kind: str) -> Any:  # noqa: ANN401 - any configuration class
    """The default configuration of a type, as a decoder where it can be either."""
    config = CONFIG_MAPPING[kind](**MISSING.get(kind, {}))
    for part in (config, text_config(config)):
        if not part.is_encoder_decoder and hasattr(part, "is_decoder"):
            part.is_decoder = True
    return config


class Late(BaseException):
    """Out of time; no `Exception`, so that a twin's next recipe is not tried."""


@contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """Raise `Late` in the block after so many seconds."""

    def late(number: int, frame: object) -> None:
        raise Late(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
