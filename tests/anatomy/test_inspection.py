"""What `abliterate inspect` tells: writers by their names on disk, what is behind them, and which edits are exact."""

import json
import sys
from collections.abc import Callable

import pytest
from transformers import CONFIG_MAPPING

from abliterate.anatomy.inspection import Inspection, Row, inspect
from abliterate.anatomy.load import load_config
from abliterate.anatomy.study import study
from abliterate.ui.console import Console
from abliterate.ui.main import main
from benchmarks.configs import default_config
from tests.toys import HEADS, INNER, LAYERS, VOCABULARY, WIDTH, build, toy


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> Callable[[str], Inspection]:
    """`seen(kind)` is the inspection of that toy's checkpoint."""
    done: dict[str, Inspection] = {}

    def get(kind: str) -> Inspection:
        if kind not in done:
            _, config, stored = load_config(toy(kind, tmp_path_factory.mktemp(kind)))
            done[kind] = inspect(kind, study(config), {name: tensor.shape for name, tensor in stored.items()})
        return done[kind]

    return get


def rows(inspection: Inspection) -> dict[str, Row]:
    return {row.stored: row for row in inspection.rows}


def test_every_writer_of_a_llama(seen):
    found = seen("llama")
    assert (found.width, found.layers, found.blocks) == (WIDTH, LAYERS, ("model.layers.N",))
    assert {(row.stored, row.tensors, row.layers, row.shape, row.out_axis, row.kind) for row in found.rows} == {
        ("model.embed_tokens.weight", 1, (), (VOCABULARY, WIDTH), 1, "embedding"),
        ("model.layers.N.self_attn.o_proj.weight", LAYERS, (0, 1, 2), (WIDTH, HEADS * 8), 0, "matrix"),
        ("model.layers.N.mlp.down_proj.weight", LAYERS, (0, 1, 2), (WIDTH, INNER), 0, "matrix"),
    }
    assert found.architecture == "LlamaForCausalLM"
    assert found.weights_read
    assert set(found.forms.values()) == {""}, "every form is exact"
    assert found.hooked == {
        "model.embed_tokens": 1,
        "model.layers.N.self_attn.o_proj": LAYERS,
        "model.layers.N.mlp.down_proj": LAYERS,
    }


def test_transposed_matrices_biases_and_positions_of_gpt2(seen):
    found = rows(seen("gpt2"))
    assert {name: row.out_axis for name, row in found.items()} == {
        "transformer.wte.weight": 1,
        "transformer.wpe.weight": 1,
        "transformer.h.N.attn.c_proj.weight": 1,  # [in, out], and square: its shape does not tell
        "transformer.h.N.attn.c_proj.bias": 0,
        "transformer.h.N.mlp.c_proj.weight": 1,
        "transformer.h.N.mlp.c_proj.bias": 0,
    }
    assert found["transformer.wte.weight"].tied_to == ("lm_head.weight",)
    assert seen("gpt2").forms == {
        "weights": "",
        "adapter": f"{2 * LAYERS} biases have no low-rank part; transformer.wte.weight is tied",
        "hooks": "",
    }


def test_experts_are_named_as_they_lie_on_disk(seen):
    row = rows(seen("mixtral"))["model.layers.N.block_sparse_moe.experts.N.w2.weight"]
    assert row.tensors == LAYERS * 4
    assert (row.parameter, row.kind) == ("model.layers.N.mlp.experts.down_proj", "experts")
    assert row.shape == (4, WIDTH, INNER)
    assert (row.axis_in_memory, row.out_axis) == (1, 0)
    assert seen("mixtral").forms["adapter"] == "model.layers.N.mlp.experts.down_proj stacks experts"


def test_norms_behind_writers_are_told_with_their_offset(seen):
    found = rows(seen("gemma2"))
    assert {name: row.gains for name, row in found.items()} == {
        "model.embed_tokens.weight": (),
        "model.layers.N.self_attn.o_proj.weight": ("post_attention_layernorm + 1",),
        "model.layers.N.mlp.down_proj.weight": ("post_feedforward_layernorm + 1",),
    }


def test_a_model_that_normalises_its_stream_is_for_hooks_only(seen):
    found = seen("bert")
    assert found.rows == ()
    assert found.forms["hooks"] == ""
    assert found.forms["adapter"] == "as for the weights"
    assert found.forms["weights"].startswith(
        f"bert.encoder.layer.{LAYERS - 1} does not add to the stream but normalises"
    )
    assert found.hooked == {
        "bert.encoder.layer.N": 1,  # the input of the first
        "bert.encoder.layer.N.attention.output.dense": LAYERS,
        "bert.encoder.layer.N.output.dense": LAYERS,
        "bert.encoder.layer.N.attention.output.LayerNorm": LAYERS,
        "bert.encoder.layer.N.output.LayerNorm": LAYERS,
    }


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mixtral", "gemma2"])
def test_a_configuration_alone_tells_the_same_but_for_counts_of_experts(kind, seen, tmp_path):
    build(kind).config.save_pretrained(tmp_path)
    _, config, stored = load_config(tmp_path)
    assert stored is None
    told = inspect(kind, study(config), stored)
    assert not told.weights_read
    with_weights = seen(kind)
    names = {row.stored: (row.layers, row.shape, row.out_axis, row.gains, row.tied_to) for row in told.rows}
    assert names == {
        row.stored: (row.layers, row.shape, row.out_axis, row.gains, row.tied_to) for row in with_weights.rows
    }
    assert (told.forms, told.hooked, told.width) == (with_weights.forms, with_weights.hooked, with_weights.width)


def test_a_directory_with_only_a_configuration_and_one_document_of_json(tmp_path, capsys, monkeypatch):
    build("mixtral").config.save_pretrained(tmp_path)
    monkeypatch.setattr(sys, "argv", ["abliterate", "inspect", str(tmp_path), "--json"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert not exit_.value.code
    document = json.loads(capsys.readouterr().out)
    assert document["weights_read"] is False
    assert [row["stored"] for row in document["rows"]] == [
        "model.embed_tokens.weight",
        "model.layers.N.block_sparse_moe.experts.N.w2.weight",
        "model.layers.N.self_attn.o_proj.weight",
    ]


@pytest.mark.parametrize("kind", ["gemma2", "nemotron_h", "deepseek_v3"])
def test_names_are_never_cut_at_80_columns(kind, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    config = CONFIG_MAPPING[kind](num_hidden_layers=4)
    found = inspect(kind, study(config), None)
    Console(json=False).inspection(found)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    for row in found.rows:
        assert row.stored.rpartition(".N.")[2] in out
        assert all(gain in out for gain in row.gains)


def test_blocks_that_differ_have_rows_of_their_own():
    """OLMo hybrid: a norm stands behind the MLP of its attention blocks only."""
    found = inspect("olmo_hybrid", study(default_config("olmo_hybrid")), None)
    rows = [row for row in found.rows if row.parameter == "model.layers.N.mlp.down_proj.weight"]
    assert {row.gains for row in rows} == {(), ("post_feedforward_layernorm",)}
    assert len({layer for row in rows for layer in row.layers}) == found.layers == sum(len(row.layers) for row in rows)
