"""Types that span the variety of architectures, with the code of `benchmarks/architectures.py`, which runs them all.

Each is studied from its configuration, edited by hooks, in memory and on disk, reloaded with plain transformers, and
compared; the stream is orthogonal at every input, read and output of the blocks, and removing the direction where it is
read, without the list of writers, gives the same model.
"""

import pytest
from transformers import LlamaConfig

from abliterate.anatomy.dissect import Form
from abliterate.anatomy.study import study
from benchmarks.architectures import LOGITS, STREAM, study_type
from benchmarks.configs import default_config

EXACT = {
    "llama": "plain",
    "gpt2": "Conv1D, tied, learned positions, biases",
    "cohere": "parallel, tied, a LayerNorm of its own",
    "gemma2": "norms behind every sublayer, tied",
    "olmo_hybrid": "norms behind some sublayers, linear attention",
    "gemma4_text": "embeddings for each layer, nested norms",
    "mixtral": "experts: stacked in memory, one by one on the disk",
    "gpt_oss": "experts the other way round, with biases",
    "deepseek_v3": "latent attention, dense and expert layers, a shared expert",
    "qwen3_next": "linear attention, a gated shared expert",
    "nemotron_h": "state space, experts and attention, another prefix on the disk",
    "deepseek_v4": "several streams, mixed by hyper-connections",
    "zamba": "a shared block, whose tie must outlive that of the head",
    "qwen4_exp_text": "several streams in one axis",
    "hrm_text": "two stacks of blocks that run several times",
}
BY_HOOKS = {
    "bert": "the stream itself is normalised",
    "longcat_flash": "experts that add the normalised stream",
    "rwkv": "a gate of its own for each channel",
    "xglm": "constant positions",
}
REFUSED = {"doge": "each channel of the stream is scaled"}


@pytest.mark.parametrize("kind", EXACT)
def test_hooks_weights_and_files_are_one_model(kind):
    row = study_type(kind)
    assert row.outcome == "exact", row
    assert row.stream <= STREAM and row.memory <= LOGITS and row.disk <= LOGITS
    assert (row.reads is None) == (kind in {"gemma2", "gemma4_text", "olmo_hybrid"}), "a norm is behind a writer"


@pytest.mark.parametrize("kind", BY_HOOKS)
def test_where_weights_cannot_hooks_are_right_and_the_reason_is_given(kind):
    row = study_type(kind)
    assert row.outcome == "hooks", row
    assert row.stream <= STREAM and row.reads <= LOGITS
    assert row.reason


@pytest.mark.parametrize("kind", REFUSED)
def test_what_neither_can_do_is_refused(kind):
    row = study_type(kind)
    assert row.outcome == "refused" and "does not add to the stream" in row.reason


def test_a_large_model_is_studied_in_its_own_sizes():
    """Without its weights: a 70B model's would be 140 GB."""
    config = LlamaConfig(
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=6,
        num_attention_heads=64,
        num_key_value_heads=8,
        vocab_size=128256,
    )
    seen = study(config)
    assert (seen.anatomy.width, seen.anatomy.layers, seen.anatomy.form) == (8192, 6, Form.WEIGHTS)
    assert seen.shapes["model.layers.5.mlp.down_proj.weight"] == (8192, 28672)
    assert config.hidden_size == 8192 and config._attn_implementation_internal is None, "left as it was"


def test_layers_of_every_kind_are_studied():
    """Three dense layers, then experts: all sixty-one, as the real one has."""
    seen = study(default_config("deepseek_v3"))
    kinds = {writer.layer: writer.kind for writer in seen.anatomy.writers if "mlp" in writer.parameter}
    assert seen.anatomy.layers == 61 and seen.anatomy.width == 7168
    assert [layer for layer, kind in kinds.items() if kind == "matrix" and layer < 3] == [0, 1, 2]
    assert seen.shapes["model.layers.60.mlp.experts.down_proj"] == (256, 7168, 2048)
