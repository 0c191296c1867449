"""What an edit does to a checkpoint, on every dense architecture (DESIGN.md, "Laws")."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from abliterate.anatomy.load import load
from abliterate.directions.direction import Direction, Provenance
from abliterate.edits.bake import bake
from abliterate.edits.edit import Ablate
from abliterate.edits.hooks import edited
from tests.toys import apart, direction, logits, sentences, toy

TEXTS = sentences(2)

# Float32 logits of two orders of summation: some 1e2 operations of eps = 1.2e-7.
SAME = 1e-5

WEIGHT = torch.randn(24, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
NOWHERE = Provenance("toy", "local", "c", 24, 1, "t", "p", "difference_of_means")


def reload(directory, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval()


def tensors(directory):
    return {name: value for path in directory.glob("*.safetensors") for name, value in load_file(path).items()}


def same_bytes(x, y):
    return x.dtype == y.dtype and torch.equal(x.view(torch.uint8), y.view(torch.uint8))


@pytest.fixture(scope="module")
def baked(tmp_path_factory):
    """`baked(subject, strength, rank)` is that edit and the directory it was baked into, once for all tests."""
    done = {}

    def get(subject, strength, rank=1):
        key = (subject.source, strength, rank)
        if key not in done:
            done[key] = Ablate(direction(subject, rank=rank), strength), tmp_path_factory.mktemp("baked")
            bake(subject, *done[key])
        return done[key]

    return get


def writes(subject):
    """Names of all tensors that write to the stream."""
    return {writer.parameter for writer in subject.anatomy.writers}


@pytest.mark.parametrize(("strength", "rank"), [(0.3, 1), (1.0, 1), (1.7, 3)])
def test_hooks_and_reloaded_weights_are_one_model(subject, strength, rank, baked):
    edit, directory = baked(subject, strength, rank)
    model = reload(directory)
    if subject.study.layout.tied_head:
        head = subject.model.get_output_embeddings().weight
        assert torch.equal(model.get_output_embeddings().weight, head), "untied, with its original values"
    for text in TEXTS:
        with edited(subject, edit):
            hooked = logits(subject.model, text)
        assert apart(logits(model, text), hooked) < SAME
        assert apart(logits(subject.model, text), hooked) > 1e-2, "the edit must matter"


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("llama", torch.bfloat16),
        ("qwen2", torch.bfloat16),
        ("gpt2", torch.bfloat16),
        ("granite", torch.bfloat16),
        ("llama", torch.float16),
    ],
)
def test_in_half_precision_they_differ_by_one_rounding_of_the_writers(kind, dtype, tmp_path):
    """Each folded entry is off by at most eps / 2 of itself, independently; three blocks add up to a few of those."""
    subject = load(toy(kind, tmp_path / "base", dtype=dtype), dtype="float32")
    edit = Ablate(direction(subject))
    (tmp_path / "edited").mkdir()
    bake(subject, edit, tmp_path / "edited")
    assert {t.dtype for t in tensors(tmp_path / "edited").values()} == {dtype}
    with edited(subject, edit):
        hooked = logits(subject.model, TEXTS[0])
    assert apart(logits(reload(tmp_path / "edited"), TEXTS[0]), hooked) < 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_whatever_does_not_write_keeps_every_byte(subject, strength, baked):
    _, directory = baked(subject, strength)
    before, after = tensors(subject.directory), tensors(directory)
    changed = {name for name in before if not same_bytes(after[name], before[name])}
    assert changed == (writes(subject) if strength else set())
    assert after.keys() - before.keys() == ({"lm_head.weight"} if subject.study.layout.tied_head else set())


@pytest.mark.parametrize("kind", ["llama-tied", "qwen2", "gemma", "cohere", "starcoder2", "gpt2"])
def test_an_untied_head_is_stored_with_the_original_values(kind, toys, baked):
    """Only what is written is edited: a head that was tied to the embedding becomes a tensor of its own, unedited."""
    subject = toys(kind)
    _, directory = baked(subject, 1.0)
    embedding = tensors(subject.directory)[subject.anatomy.writers[0].parameter]
    assert same_bytes(tensors(directory)["lm_head.weight"], embedding)


def test_the_checkpoint_holds_the_fold_of_every_writer(subject, baked):
    edit, directory = baked(subject, 0.3)
    before, after = tensors(subject.directory), tensors(directory)
    for writer in subject.anatomy.writers:
        name = writer.parameter
        assert same_bytes(after[name], edit.fold(before[name], writer.out_axis))


def test_strength_changes_every_writer_in_proportion(subject, tmp_path):
    """Monotone, and more: W' - W grows linearly, so no strength is like another (a tool that ignored it was seen)."""
    before = tensors(subject.directory)
    changes = {}
    for strength in (0.25, 2.0):
        (tmp_path / str(strength)).mkdir()
        bake(subject, Ablate(direction(subject), strength), tmp_path / str(strength))
        after = tensors(tmp_path / str(strength))
        changes[strength] = {name: after[name].double() - before[name].double() for name in writes(subject)}
    for name, change in changes[0.25].items():
        assert change.norm() > 0
        rounding = 8 * torch.finfo(torch.float32).eps * before[name].double().norm()
        assert (8 * change - changes[2.0][name]).norm() < rounding


strengths = st.floats(0.0, 2.0)
bases = st.tuples(st.integers(0, 1000), st.integers(1, 5)).map(
    lambda case: torch.linalg.qr(
        torch.randn(24, case[1], generator=torch.Generator().manual_seed(case[0]), dtype=torch.float64)
    ).Q.T.contiguous()
)
axes = st.sampled_from([0, 1])


def ablate(basis, strength):
    return Ablate(Direction(basis, 1.0, -1, 0, NOWHERE), strength)


def oriented(axis):
    """The weight [d, in] as it is stored with its outputs along `axis`."""
    return WEIGHT if axis == 0 else WEIGHT.T.contiguous()


@given(bases, strengths, axes)
def test_folding_a_weight_is_applying_the_edit_to_its_output(basis, strength, axis):
    edit = ablate(basis, strength)
    inputs = torch.randn(7, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    folded = edit.fold(oriented(axis), axis)
    outputs = inputs @ (folded.T if axis == 0 else folded)
    torch.testing.assert_close(outputs, edit.apply(inputs @ WEIGHT.T))


@given(bases, strengths, axes)
def test_low_rank_factors_are_the_change_of_the_weight(basis, strength, axis):
    edit = ablate(basis, strength)
    b, a = edit.low_rank(oriented(axis), axis)
    folded = edit.fold(oriented(axis), axis)
    change = (folded if axis == 0 else folded.T) - WEIGHT
    assert b.shape == (24, len(basis)) and a.shape == (len(basis), 40)
    torch.testing.assert_close(b @ a, change)


@given(bases, axes)
def test_folding_twice_is_folding_once(basis, axis):
    edit = ablate(basis, 1.0)
    once = edit.fold(oriented(axis), axis)
    torch.testing.assert_close(edit.fold(once, axis), once)


@given(bases, strengths)
def test_a_fold_keeps_1_minus_strength_of_the_component_and_all_of_the_rest(basis, strength):
    folded = ablate(basis, strength).fold(WEIGHT, 0)
    torch.testing.assert_close(basis @ folded, (1 - strength) * (basis @ WEIGHT))
    rest = torch.eye(24, dtype=torch.float64) - basis.T @ basis
    torch.testing.assert_close(rest @ folded, rest @ WEIGHT)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("shape", [(24, 40), (24,)])
def test_a_fold_rounds_once(dtype, shape):
    """It equals the float64 result rounded at the end; arithmetic in the storage dtype would not."""
    generator = torch.Generator().manual_seed(2)
    basis = torch.linalg.qr(torch.randn(24, 1, generator=generator, dtype=torch.float64)).Q.T
    stored = torch.randn(shape, generator=generator).to(dtype)
    exact = stored.double() - torch.tensordot(basis.T @ basis, stored.double(), dims=1)
    assert torch.equal(ablate(basis, 1.0).fold(stored, 0), exact.to(dtype))


def test_a_fold_at_strength_0_is_the_same_tensor():
    stored = torch.tensor([[-0.0, float("nan")], [float("inf"), 1e-40]])
    basis = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    assert ablate(basis, 0.0).fold(stored, 0) is stored
    assert ablate(basis, 0.0).apply(stored) is stored
