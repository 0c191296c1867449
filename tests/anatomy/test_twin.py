"""Twins keep the architecture, shrink every width, and leave nothing at its initial value."""

import copy
import json
from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel

from abliterate.anatomy.shrink import hidden_size_of, shrink, special_tokens, text_config
from abliterate.anatomy.sizes import RECIPES, VOCABULARY
from abliterate.anatomy.twin import build_twin, twin_inputs
from abliterate.errors import UnsupportedModel

# One type for each way of holding sizes and layer kinds.
TYPES = (
    "llama",
    "gpt2",  # other key names, Conv1D, tied
    "gemma2",  # sliding and full layers
    "gemma3",  # text beside a vision tower
    "gemma4_text",  # layers with head sizes of their own
    "mixtral",
    "gpt_oss",
    "deepseek_v3",  # low ranks, groups of experts, dense layers first
    "qwen3_next",  # recurrent and full attention
    "nemotron_h",  # a list of block types
    "jamba",  # periods and offsets
    "falcon_h1",  # state space beside attention
    "bloom",
    "opt",
    "bert",
    "mamba2",
)


def config_of(kind: str, **values: Any) -> PreTrainedConfig:
    config: PreTrainedConfig = CONFIG_MAPPING[kind](**values)
    if hasattr(config, "is_decoder"):
        config.is_decoder = True
    return config


def logits_of(model: PreTrainedModel, **inputs: Any) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(**(inputs or twin_inputs(model)), use_cache=False).logits
    return logits


@pytest.mark.parametrize("kind", TYPES)
def test_twins_run_and_nothing_in_them_is_as_initialised(kind: str) -> None:
    config = config_of(kind)
    before = json.dumps(config.to_dict(), default=str)
    model = build_twin(config, layers=4)
    assert json.dumps(config.to_dict(), default=str) == before
    logits = logits_of(model)
    assert torch.isfinite(logits).all()
    assert 0.01 < float(logits.std()) < 50
    assert not model.training
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32
        assert parameter.numel() == 1 or parameter.unique().numel() > 1, name
        assert torch.isfinite(parameter).all(), name
    assert sum(parameter.numel() for parameter in model.parameters()) < 4e6


def test_a_seed_decides_everything_and_the_global_generator_does_not_move() -> None:
    config = config_of("qwen3_next")
    state = torch.random.get_rng_state()
    first, second, other = (
        build_twin(config, layers=2),
        build_twin(config, layers=2),
        build_twin(config, layers=2, seed=1),
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert not torch.equal(first.get_input_embeddings().weight, other.get_input_embeddings().weight)


def test_without_a_limit_every_layer_stays() -> None:
    config = config_of("deepseek_v3")
    small = shrink(config)
    assert small.num_hidden_layers == config.num_hidden_layers == 61
    assert small.first_k_dense_replace == config.first_k_dense_replace


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("gemma2", "layer_types"),
        ("gemma3n_text", "layer_types"),
        ("qwen3_next", "layer_types"),
        ("axk1", "mlp_layer_types"),
        ("nemotron_h", "layers_block_type"),
        ("gpt_neo", "attention_layers"),
        ("zamba", "layers_block_type"),
    ],
)
def test_few_layers_keep_every_kind(kind: str, key: str) -> None:
    config = config_of(kind)
    small = shrink(config, layers=4)
    assert small.num_hidden_layers == len(getattr(small, key)) == 4
    assert set(getattr(small, key)) == set(getattr(config, key))


def test_thresholds_and_periods_follow_the_chosen_layers() -> None:
    assert shrink(config_of("deepseek_v3"), layers=4).first_k_dense_replace == 2
    model = build_twin(config_of("jamba"), layers=4)
    kinds = Counter(type(module).__name__ for module in model.modules())
    assert (kinds["JambaAttention"], kinds["JambaMambaMixer"]) == (1, 3)
    assert kinds["JambaMLP"] == kinds["JambaSparseMoeBlock"] == 2


@pytest.mark.parametrize("kind", ["gemma3n_text", "gemma4_text", "mllama", "llama4_text"])
@pytest.mark.parametrize("layers", [1, 2, 3, 5])
def test_any_number_of_layers_gives_a_valid_configuration(kind: str, layers: int) -> None:
    small = text_config(shrink(config_of(kind), layers=layers))
    assert small.num_hidden_layers == layers
    type(small).from_dict(small.to_dict())


def test_layers_with_sizes_of_their_own_keep_them_apart() -> None:
    config = config_of("gemma4_text")
    small = shrink(config, layers=4)
    sizes = [small.per_layer_config[number].head_dim for number in range(4)]
    assert len(set(sizes)) == 2
    wide = [kind for kind, size in zip(small.layer_types, sizes, strict=True) if size == max(sizes)]
    assert set(wide) == {"full_attention"}


@pytest.mark.parametrize(
    "kind", ["llama", "qwen2", "gemma2", "gpt_oss", "deepseek_v3", "qwen3_next", "granitemoehybrid"]
)
def test_the_width_of_the_stream_is_no_other_size(kind: str) -> None:
    model = build_twin(config_of(kind), layers=4)
    d = hidden_size_of(model.config)
    for name, parameter in model.named_parameters():
        assert list(parameter.shape).count(d) <= 1, name
    assert d != VOCABULARY


def test_tied_weights_stay_tied() -> None:
    model = build_twin(config_of("gemma2"), layers=2)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_sinusoids_stay_and_norm_gains_do_not() -> None:
    model = build_twin(config_of("marian"), layers=2)
    table = next(value for name, value in model.named_parameters() if "embed_positions" in name)
    assert torch.allclose(table.pow(2).sum(dim=1), torch.full((len(table),), table.shape[1] / 2))
    gains = [module.weight.detach() for module in model.modules() if isinstance(module, nn.LayerNorm)]
    assert gains
    assert all(0.03 < float((gain - 1).std()) < 0.3 for gain in gains)


def test_special_tokens_fit_the_vocabulary_and_are_not_drawn() -> None:
    model = build_twin(config_of("gemma3"), layers=2)
    special = special_tokens(model.config)
    assert special and max(special) < VOCABULARY
    assert len({model.config.image_token_id, model.config.boi_token_index, model.config.eoi_token_index}) == 3
    ids = twin_inputs(model, shape=(4, 64))["input_ids"]
    assert ids.shape == (4, 64)
    assert not special & set(ids.flatten().tolist())


def test_rotary_sections_fill_the_smaller_head() -> None:
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    config = config_of("qwen2_vl", text_config={"rope_parameters": rope})
    small = shrink(config, layers=2).text_config
    assert sum(small.rope_parameters["mrope_section"]) == small.head_dim // 2
    assert config.text_config.rope_parameters["mrope_section"] == [16, 24, 24]
    logits_of(build_twin(config, layers=2))


def test_a_twin_can_be_saved_and_loaded(tmp_path: Any) -> None:
    model = build_twin(config_of("deepseek_v3"), layers=3)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path, attn_implementation="eager")
    again.set_experts_implementation("eager")
    inputs = twin_inputs(model)
    assert torch.equal(logits_of(model, **inputs), logits_of(again, **inputs))


def test_quantization_is_dropped() -> None:
    config = config_of("llama", quantization_config={"quant_method": "fp8"})
    assert hasattr(config, "quantization_config")
    assert not hasattr(build_twin(config, layers=1).config, "quantization_config")


def test_the_sizes_of_a_head_that_no_rule_fits_are_kept() -> None:
    config = config_of("qwen2_vl")  # no sections given: the class falls back on those of a head of 128
    model = build_twin(config, layers=2)
    assert hidden_size_of(text_config(model.config)) == RECIPES[2].heads * 128


def test_what_no_recipe_can_run_is_refused_by_name() -> None:
    config = copy.deepcopy(config_of("llama"))
    config.hidden_act = "no such function"
    with pytest.raises(UnsupportedModel, match=r"llama could be run .*no such function"):
        build_twin(config, layers=1)
    with pytest.raises(UnsupportedModel, match="t5"):
        build_twin(config_of("t5"), layers=1)
