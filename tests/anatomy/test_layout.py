"""Where writers lie on disk, learnt from marks sent through transformers' own conversion."""

from collections.abc import Callable, Mapping

import pytest
import torch
from safetensors.torch import load_file, save_file

from abliterate.anatomy.dissect import dissect
from abliterate.anatomy.layout import Layout
from abliterate.anatomy.projection import fold
from abliterate.anatomy.study import study
from abliterate.errors import UnsupportedModel
from tests.toys import INNER, LAYERS, VOCABULARY, WIDTH, build

Shapes = dict[str, tuple[int, ...]]
EXPERT = "model.layers.{}.block_sparse_moe.experts.{}.w2.weight"


@pytest.fixture(scope="module")
def layouts() -> Callable[[str], Layout]:
    """`layouts(kind)` is the layout of that toy; it says nothing of other sizes than the twin's."""
    done: dict[str, Layout] = {}

    def get(kind: str) -> Layout:
        if kind not in done:
            model = build(kind)
            done[kind] = Layout(model, dissect(model).writers)
        return done[kind]

    return get


def placed(layout: Layout, stored: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[str, int, int]]:
    """For each tensor on disk that writes: the parameter, its axis on disk and in memory."""
    return {part.name: (part.writer.parameter, part.out_axis, part.writer.out_axis) for part in layout.find(stored)}


def mixtral(experts: int = 4) -> Shapes:
    shapes: Shapes = {"model.embed_tokens.weight": (VOCABULARY, WIDTH), "lm_head.weight": (VOCABULARY, WIDTH)}
    for layer in range(LAYERS):
        shapes[f"model.layers.{layer}.self_attn.o_proj.weight"] = (WIDTH, WIDTH)
        for expert in range(experts):
            shapes[EXPERT.format(layer, expert)] = (WIDTH, INNER)
            shapes[f"model.layers.{layer}.block_sparse_moe.experts.{expert}.w1.weight"] = (INNER, WIDTH)
    return shapes


def gpt2(prefix: str) -> Shapes:
    shapes: Shapes = {f"{prefix}wte.weight": (VOCABULARY, WIDTH), f"{prefix}wpe.weight": (512, WIDTH)}
    for layer in range(LAYERS):
        for part, inputs in (("attn", WIDTH), ("mlp", INNER)):
            shapes[f"{prefix}h.{layer}.{part}.c_proj.weight"] = (inputs, WIDTH)
            shapes[f"{prefix}h.{layer}.{part}.c_proj.bias"] = (WIDTH,)
        shapes[f"{prefix}h.{layer}.mlp.c_fc.weight"] = (WIDTH, INNER)
    return shapes


def test_experts_that_lie_one_by_one_write_on_their_first_axis(layouts):
    found = placed(layouts("mixtral"), mixtral())
    for layer in range(LAYERS):
        for expert in range(4):
            assert found[EXPERT.format(layer, expert)] == (f"model.layers.{layer}.mlp.experts.down_proj", 0, 1)
    assert len(found) == 1 + LAYERS * (1 + 4)
    assert not [name for name in found if "w1" in name or "lm_head" in name]


def test_more_experts_than_the_twin_has_are_found_too(layouts):
    assert len(placed(layouts("mixtral"), mixtral(experts=7))) == 1 + LAYERS * (1 + 7)


@pytest.mark.parametrize("prefix", ["transformer.", ""])
def test_names_of_gpt2_with_prefix_and_without(prefix, layouts):
    found = placed(layouts("gpt2"), gpt2(prefix))
    assert found.keys() == gpt2(prefix).keys() - {f"{prefix}h.{n}.mlp.c_fc.weight" for n in range(LAYERS)}
    assert found[f"{prefix}h.0.attn.c_proj.weight"] == ("transformer.h.0.attn.c_proj.weight", 1, 1)
    assert found[f"{prefix}h.2.mlp.c_proj.bias"] == ("transformer.h.2.mlp.c_proj.bias", 0, 0)
    assert found[f"{prefix}wte.weight"] == ("transformer.wte.weight", 1, 1)


def test_folding_on_disk_and_reading_back_is_folding_in_memory(layouts, tmp_path):
    """The marks agree with what transformers writes."""
    layout = layouts("mixtral")
    layout.twin.save_pretrained(tmp_path)
    basis = torch.nn.functional.normalize(torch.randn(1, WIDTH, dtype=torch.float64), dim=-1)
    tensors = load_file(tmp_path / "model.safetensors")
    for part in layout.find({name: tuple(tensor.shape) for name, tensor in tensors.items()}):
        tensors[part.name] = fold(tensors[part.name], part.out_axis, basis, 1.0)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    reloaded = type(layout.twin).from_pretrained(tmp_path)
    for name, writer in layout.writers.items():
        expected = fold(layout.twin.get_parameter(name).detach(), writer.out_axis, basis, 1.0)
        assert torch.equal(reloaded.get_parameter(name), expected), name


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ("model.layers.1.self_attn.o_proj.weight", r"model\.layers\.1\.self_attn\.o_proj\.weight"),
        ("model.embed_tokens.weight", r"model\.embed_tokens\.weight"),
    ],
)
def test_a_checkpoint_without_a_writer_is_refused_by_name(lost, named, layouts):
    shapes = mixtral()
    del shapes[lost]
    with pytest.raises(UnsupportedModel, match=f"no tensor for {named}"):
        layouts("mixtral").find(shapes)


def test_a_layer_without_any_of_its_experts_is_refused_by_name(layouts):
    shapes = {name: shape for name, shape in mixtral().items() if "layers.2.block_sparse_moe" not in name}
    with pytest.raises(UnsupportedModel, match=r"no tensor for model\.layers\.2\.mlp\.experts\.down_proj"):
        layouts("mixtral").find(shapes)


def test_an_unknown_form_of_a_writer_is_refused(layouts):
    shapes = mixtral() | {"model.layers.0.self_attn.o_proj.weight": (4, WIDTH // 4, WIDTH)}
    with pytest.raises(UnsupportedModel, match=r"o_proj\.weight has 3 axes"):
        layouts("mixtral").find(shapes)


def test_the_head_is_the_name_that_writes_nothing(layouts):
    (tie,) = layouts("gpt2").ties()
    assert tie.names == ("transformer.wte.weight", "lm_head.weight")
    assert tie.head == "lm_head.weight"
    assert layouts("gpt2").tied_head
    assert layouts("mixtral").ties() == []
    assert not layouts("mixtral").tied_head


@pytest.mark.parametrize("kind", ["gpt2", "mixtral", "qwen2"])
def test_a_tied_tensor_gets_a_name_that_transformers_reads(kind, layouts):
    layout = layouts(kind)
    assert layout.memory_name(layout.disk_name("lm_head.weight")) == "lm_head.weight"


def test_names_on_disk_are_taken_to_memory(layouts):
    layout = layouts("mixtral")
    assert layout.memory_name("model.layers.1.block_sparse_moe.experts.3.w2.weight") == (
        "model.layers.1.mlp.experts.down_proj"
    )
    assert layouts("gpt2").memory_name("h.1.attn.c_proj.weight") == "transformer.h.1.attn.c_proj.weight"


def test_norms_and_multipliers_change_nothing_on_disk(layouts):
    (embedding, *others) = layouts("gemma2").as_saved()
    assert (embedding.name, embedding.out_axis) == ("model.embed_tokens.weight", 1)
    assert {part.out_axis for part in others} == {0}
    assert all(len(part.writer.gains) == 1 for part in others)


def test_the_twin_is_left_as_it_was(layouts):
    before = build("mixtral").state_dict()
    after = layouts("mixtral").twin.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_expert_that_is_missing_is_noticed():
    """Eleven of twelve tensors are there; the twelfth would be drawn at random."""
    seen = study(build("mixtral").config)
    shapes = {part.name: seen.shapes[part.writer.parameter] for part in seen.layout.as_saved()}
    stored = [part.name for part in seen.layout.as_saved() if part.writer.kind == "experts"]
    names = shapes | dict.fromkeys(stored, (WIDTH, INNER))
    assert len(seen.layout.find(names)) == len(names)
    del names[next(name for name in stored if ".experts.1." in name)]
    with pytest.raises(UnsupportedModel, match=r"only a part of model\.layers\.0\.mlp\.experts\.down_proj"):
        seen.layout.find(names)
