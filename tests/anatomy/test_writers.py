"""Every residual writer of every dense architecture is found, and whatever is not understood is refused by name."""

import pytest
import torch

from abliterate.anatomy.load import load
from abliterate.anatomy.writers import Writer, dissect
from abliterate.errors import UnsupportedModel
from tests.toys import DENSE, LAYERS, WIDTH, build, hooks, toy, work_in_place

# kind: (the list of blocks, embeddings with their gain, writers of a block, have biases, axis, gain, tied)
EMBED = {"model.embed_tokens": 1.0}
LLAMA = ("self_attn.o_proj", "mlp.down_proj")
EXPECTED = {
    "llama": ("model.layers", EMBED, LLAMA, False, 0, 1.0, False),
    "llama-tied": ("model.layers", EMBED, LLAMA, True, 0, 1.0, True),
    "mistral": ("model.layers", EMBED, LLAMA, False, 0, 1.0, False),
    "qwen2": ("model.layers", EMBED, LLAMA, False, 0, 1.0, True),
    "gemma": ("model.layers", EMBED, LLAMA, False, 0, 1.0, True),  # sqrt(d) is inside the embedding's own module
    "granite": ("model.layers", {"model.embed_tokens": 12.0}, LLAMA, False, 0, 0.22, False),
    "cohere": ("model.layers", EMBED, LLAMA, False, 0, 1.0, True),
    "phi": ("model.layers", EMBED, ("self_attn.dense", "mlp.fc2"), True, 0, 1.0, False),
    "gpt_neox": (
        "gpt_neox.layers",
        {"gpt_neox.embed_in": 1.0},
        ("attention.dense", "mlp.dense_4h_to_h"),
        True,
        0,
        1.0,
        False,
    ),
    "starcoder2": ("model.layers", EMBED, ("self_attn.o_proj", "mlp.c_proj"), True, 0, 1.0, True),
    "gpt2": (
        "transformer.h",
        {"transformer.wte": 1.0, "transformer.wpe": 1.0},
        ("attn.c_proj", "mlp.c_proj"),
        True,
        1,
        1.0,
        True,
    ),
}


def expected(kind):
    blocks, embeddings, parts, biased, axis, gain, tied = EXPECTED[kind]
    writers = []
    for name, scale in embeddings.items():
        head = "lm_head.weight" if tied and not name.endswith("wpe") else None
        writers.append(Writer(name, f"{name}.weight", None, None, "embedding", 1, scale, head))
    for layer in range(LAYERS):
        for part in parts:
            name = f"{blocks}.{layer}.{part}"
            bias = f"{name}.bias" if biased else None
            writers.append(Writer(name, f"{name}.weight", bias, layer, part, axis, gain, None))
    return tuple(f"{blocks}.{layer}" for layer in range(LAYERS)), writers


def check(anatomy, kind, gain_tolerance=1e-6):
    blocks, writers = expected(kind)
    assert anatomy.width == WIDTH
    assert anatomy.blocks == blocks
    for found, awaited in zip(anatomy.writers, writers, strict=True):
        assert found.gain == pytest.approx(awaited.gain, rel=gain_tolerance)
        assert {**vars(found), "gain": None} == {**vars(awaited), "gain": None}


@pytest.mark.parametrize("kind", DENSE)
def test_every_writer_is_found_and_nothing_else(kind, toys):
    check(toys(kind).anatomy, kind)


@pytest.mark.parametrize("kind", DENSE)
def test_it_is_found_in_half_precision_too(kind):
    """As on a GPU. Sums of half-precision numbers are off by a rounding, so gains are less sharp."""
    check(dissect(build(kind).to(torch.bfloat16)), kind, gain_tolerance=2e-3)


def test_a_sequential_gpt_neox_is_as_good_as_a_parallel_one():
    check(dissect(build("gpt_neox", use_parallel_residual=False)), "gpt_neox")


def test_blocks_may_overwrite_their_stream():
    check(dissect(work_in_place(build("llama"))), "llama")


def test_looking_leaves_the_model_as_it_was():
    model = build("gpt2")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    dissect(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert hooks(model) == 0


def test_a_writer_that_writes_little_is_found():
    """A thousandth of its block's update is enough."""
    model = build("llama")
    with torch.no_grad():
        model.get_parameter("model.layers.1.self_attn.o_proj.weight").mul_(1e-3)
    check(dissect(model), "llama", gain_tolerance=1e-2)


@pytest.mark.parametrize(
    ("kind", "culprit"),
    [
        ("gemma2", r"model\.layers\.0\.post_attention_layernorm \(Gemma2RMSNorm\)"),
        ("mixtral", r"model\.layers\.0\.mlp\.experts \(MixtralExperts\)"),
        ("mamba", r"backbone\.layers\.0\.mixer \(MambaMixer\)"),
        ("bert", r"bert\.embeddings\.LayerNorm \(LayerNorm\)"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(kind, culprit, tmp_path):
    subject = load(toy(kind, tmp_path))
    before = hooks(subject.model)
    with pytest.raises(UnsupportedModel, match=culprit):
        _ = subject.anatomy
    assert hooks(subject.model) == before


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


def refuse(model, message):
    with pytest.raises(UnsupportedModel, match=message):
        dissect(model)


def test_a_write_by_no_module_is_refused_with_its_block():
    model = build("llama")
    mlp = model.model.layers[1].mlp
    mlp.forward = lambda x, inner=mlp.forward: inner(x) + 0.1 * x.tanh()
    refuse(model, r"^model\.layers\.1 \w+ the residual stream by")


def test_a_gate_on_a_writer_is_refused_with_its_block():
    """A gain of its own for each coordinate is not a constant."""
    model = build("llama")
    mlp = model.model.layers[2].mlp
    gate = torch.linspace(0.5, 1.5, WIDTH)
    mlp.forward = lambda x, inner=mlp.forward: inner(x) * gate
    refuse(model, r"model\.layers\.2 changes the residual stream by more")


def test_a_block_that_scales_its_stream_is_refused():
    model = build("llama")
    model.model.layers[1] = Extra(model.model.layers[1], lambda x: 0.9 * x)
    refuse(model, r"model\.layers\.1 multiplies the residual stream by 0\.9")


def test_a_write_between_blocks_is_refused():
    model = build("llama")
    model.model.layers[1].register_forward_pre_hook(lambda module, args: (args[0] + 1.0, *args[1:]))
    refuse(model, r"before model\.layers\.1")


def test_blocks_that_run_twice_are_refused():
    model = build("llama")
    model.model.layers[1] = model.model.layers[0]
    refuse(model, r"model\.layers are not executed once each and in order")


def test_a_module_that_runs_twice_in_its_block_is_refused():
    model = build("llama")
    mlp = model.model.layers[0].mlp
    mlp.forward = lambda x, inner=mlp.forward: inner(x) + inner(0.5 * x)
    refuse(model, r"model\.layers\.0\.mlp\.down_proj runs more than once")


def test_a_writer_that_shares_its_weight_with_a_reader_is_refused():
    model = build("llama")
    model.model.layers[0].self_attn.o_proj.weight = model.model.layers[0].self_attn.q_proj.weight
    refuse(model, r"o_proj\.weight is the same tensor as .*q_proj\.weight")


def test_a_model_without_blocks_is_refused():
    model = build("llama")
    model.config.hidden_size = 8
    refuse(model, "LlamaForCausalLM has no list of blocks that pass a residual stream of width 8")
