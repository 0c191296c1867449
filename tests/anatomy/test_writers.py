"""Every residual writer is found: its axis, the norms behind it, and nothing else."""

import pytest
import torch

from abliterate.anatomy.blocks import candidate_blocks
from abliterate.anatomy.dissect import Form, dissect
from abliterate.anatomy.twin import twin_inputs
from abliterate.anatomy.writers import Gain, Writer, find_writers
from abliterate.errors import UnsupportedModel
from tests.toys import DENSE, LAYERS, WIDTH, build, hooks, work_in_place

# kind: (the list of blocks, embeddings, writers of a block, have biases, axis)
EMBED = ("model.embed_tokens",)
LLAMA = ("self_attn.o_proj", "mlp.down_proj")
EXPECTED = {
    "llama": ("model.layers", EMBED, LLAMA, False, 0),
    "llama-tied": ("model.layers", EMBED, LLAMA, True, 0),
    "mistral": ("model.layers", EMBED, LLAMA, False, 0),
    "qwen2": ("model.layers", EMBED, LLAMA, False, 0),
    "gemma": ("model.layers", EMBED, LLAMA, False, 0),
    "granite": ("model.layers", EMBED, LLAMA, False, 0),
    "cohere": ("model.layers", EMBED, LLAMA, False, 0),
    "phi": ("model.layers", EMBED, ("self_attn.dense", "mlp.fc2"), True, 0),
    "gpt_neox": ("gpt_neox.layers", ("gpt_neox.embed_in",), ("attention.dense", "mlp.dense_4h_to_h"), True, 0),
    "starcoder2": ("model.layers", EMBED, ("self_attn.o_proj", "mlp.c_proj"), True, 0),
    "gpt2": ("transformer.h", ("transformer.wte", "transformer.wpe"), ("attn.c_proj", "mlp.c_proj"), True, 1),
}


def expected(kind):
    blocks, embeddings, parts, biased, axis = EXPECTED[kind]
    writers = {Writer(f"{name}.weight", 1, None, (), "embedding") for name in embeddings}
    for layer in range(LAYERS):
        for part in parts:
            name = f"{blocks}.{layer}.{part}"
            writers |= {Writer(f"{name}.weight", axis, layer, (), "matrix")}
            writers |= {Writer(f"{name}.bias", 0, layer, (), "bias")} if biased else set()
    return tuple(f"{blocks}.{layer}" for layer in range(LAYERS)), writers


def check(anatomy, kind):
    blocks, writers = expected(kind)
    assert (anatomy.form, anatomy.reason) == (Form.WEIGHTS, "")
    assert anatomy.width == WIDTH
    assert anatomy.blocks == blocks
    assert set(anatomy.writers) == writers and len(anatomy.writers) == len(writers)
    layers = [-1 if writer.layer is None else writer.layer for writer in anatomy.writers]
    assert layers == sorted(layers)


@pytest.mark.parametrize("kind", DENSE)
def test_every_writer_is_found_and_nothing_else(kind):
    check(dissect(build(kind)), kind)


def test_a_sequential_gpt_neox_is_as_good_as_a_parallel_one():
    check(dissect(build("gpt_neox", use_parallel_residual=False)), "gpt_neox")


def test_blocks_may_overwrite_their_stream():
    check(dissect(work_in_place(build("llama"))), "llama")


def test_a_writer_that_writes_little_is_found():
    model = build("llama")
    with torch.no_grad():
        model.get_parameter("model.layers.1.self_attn.o_proj.weight").mul_(1e-5)
    check(dissect(model), "llama")


def test_looking_leaves_the_model_as_it_was():
    model = build("gpt2")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    state = torch.get_rng_state()
    dissect(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(parameter.grad is None for parameter in model.parameters())
    assert hooks(model) == 0


def test_a_norm_behind_a_writer_becomes_a_gain():
    """Gemma 2 adds one to the weight of its norms and puts one behind every sublayer."""
    anatomy = dissect(build("gemma2"))
    assert anatomy.form is Form.WEIGHTS and anatomy.normed
    gains = {writer.parameter: writer.gains for writer in anatomy.writers}
    layer = "model.layers.1"
    assert gains[f"{layer}.self_attn.o_proj.weight"] == (Gain(f"{layer}.post_attention_layernorm.weight", 1.0, False),)
    assert gains[f"{layer}.mlp.down_proj.weight"] == (Gain(f"{layer}.post_feedforward_layernorm.weight", 1.0, False),)
    assert gains["model.embed_tokens.weight"] == ()


def test_stacked_experts_are_one_writer_on_their_own_axis():
    anatomy = dissect(build("mixtral"))
    experts = [writer for writer in anatomy.writers if writer.kind == "experts"]
    assert [writer.parameter for writer in experts] == [
        f"model.layers.{layer}.mlp.experts.down_proj" for layer in range(LAYERS)
    ]
    assert {writer.out_axis for writer in experts} == {1}, "[experts, d, inner]"


def test_a_square_matrix_writes_on_one_axis_only():
    """Its gradient is u v^T for one probe on both axes; two probes tell them apart."""
    model = build("llama")
    assert model.get_parameter("model.layers.0.self_attn.o_proj.weight").shape == (WIDTH, WIDTH)
    blocks = next(candidate_blocks(model, twin_inputs(model)))
    one = {w.parameter for w in find_writers(model, blocks, probes=1).writers}
    two = {w.parameter for w in find_writers(model, blocks, probes=2).writers}
    assert "model.layers.0.self_attn.o_proj.weight" in two - one


def test_a_model_that_normalises_its_stream_is_edited_by_hooks_alone():
    anatomy = dissect(build("bert"))
    assert anatomy.form is Form.HOOKS and anatomy.writers == ()
    assert "normalises or rescales" in anatomy.reason and anatomy.blocks[-1] in anatomy.reason
    assert set(anatomy.renewed) <= {site.name for site in anatomy.sites}
    assert any("LayerNorm" in name for name in anatomy.renewed)


class Extra(torch.nn.Module):
    """Adds something of its own to what a module returns."""

    def __init__(self, module, extra):
        super().__init__()
        self.module, self.extra = module, extra

    def forward(self, *args, **kwargs):
        output = self.module(*args, **kwargs)
        first = output[0] if isinstance(output, tuple) else output
        first = self.extra(first)
        return (first, *output[1:]) if isinstance(output, tuple) else first


def by_hooks(model, reason):
    """The weights cannot carry the edit, and the reason says why."""
    anatomy = dissect(model)
    assert anatomy.form is Form.HOOKS
    assert reason in anatomy.reason, anatomy.reason


def test_a_write_by_no_parameter_is_seen():
    """Something that is no fixed map of a parameter: the module's output can still be hooked."""
    model = build("llama")
    mlp = model.model.layers[1].mlp
    mlp.forward = lambda x, inner=mlp.forward: inner(x) + 0.1 * x.tanh()
    by_hooks(model, "something else writes to the stream")


def test_a_constant_that_is_added_is_seen():
    """A hundred-thousandth of the stream: no gradient tells of it, the measured stream does."""
    model = build("llama")
    constant = 1e-4 * torch.randn(WIDTH, generator=torch.Generator().manual_seed(0))
    mlp = model.model.layers[1].mlp
    mlp.forward = lambda x, inner=mlp.forward: inner(x) + constant
    by_hooks(model, "something else writes to the stream")


def test_a_gate_of_each_channel_is_seen():
    model = build("llama")
    mlp = model.model.layers[2].mlp
    mlp.forward = lambda x, inner=mlp.forward: inner(x) * x.sigmoid()
    by_hooks(model, "something that changes with the input")


def test_a_fixed_gain_of_no_parameter_is_seen():
    """Nobody could tell from the checkpoint what to remove."""
    model = build("llama")
    mlp = model.model.layers[2].mlp
    gate = torch.linspace(0.5, 1.5, WIDTH)
    mlp.forward = lambda x, inner=mlp.forward: inner(x) * gate
    by_hooks(model, "model.layers.2.mlp.down_proj.weight")


def test_a_block_that_scales_its_stream_by_a_number_is_exact():
    """A factor per token commutes with every projection."""
    model = build("llama")
    model.model.layers[1] = Extra(model.model.layers[1], lambda x: 0.9 * x)
    assert dissect(model).form is Form.WEIGHTS


def test_a_block_that_scales_every_channel_of_its_stream_is_refused_by_name():
    model = build("llama")
    scale = torch.linspace(0.5, 1.5, WIDTH)
    model.model.layers[1] = Extra(model.model.layers[1], lambda x: scale * x)
    with pytest.raises(UnsupportedModel, match=r"model\.layers\.1 does not add to the stream"):
        dissect(model)


def test_a_write_between_blocks_is_refused():
    model = build("llama")
    model.model.layers[1].register_forward_pre_hook(lambda module, args: (args[0] + 1.0, *args[1:]))
    with pytest.raises(UnsupportedModel, match="something else writes"):
        dissect(model)


def test_a_module_that_runs_twice_is_one_writer():
    model = build("llama")
    mlp = model.model.layers[0].mlp
    mlp.forward = lambda x, inner=mlp.forward: inner(x) + inner(0.5 * x)
    check(dissect(model), "llama")


def test_a_weight_that_is_read_as_well_as_written_is_seen():
    """A writer tied to a reader: folding it would change what is read."""
    model = build("llama")
    for layer in model.model.layers:
        layer.mlp.up_proj.weight = torch.nn.Parameter(layer.mlp.up_proj.weight[:WIDTH].detach().clone())
        layer.self_attn.o_proj.weight = layer.self_attn.q_proj.weight
    model.model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(torch.randn(48, WIDTH) / 6)
    for layer in model.model.layers[1:]:
        layer.mlp.up_proj.weight = torch.nn.Parameter(torch.randn(48, WIDTH) / 6)
    anatomy = dissect(model)
    assert anatomy.form is Form.HOOKS


def test_a_model_without_blocks_is_refused():
    model = build("llama")
    model.model.layers = torch.nn.ModuleList()
    with pytest.raises(UnsupportedModel, match="no list of blocks"):
        dissect(model)
