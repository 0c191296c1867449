"""The proof of a baked checkpoint: it passes what is right and fails whatever is not."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from abliterate.anatomy.load import load
from abliterate.edits.bake import bake
from abliterate.edits.edit import Ablate
from abliterate.edits.proof import prove
from abliterate.errors import VerificationFailed
from tests.toys import direction, hooks, sentences, toy

TEXTS = sentences(3)
ONE = "model.safetensors"


def tamper(directory, name, change):
    tensors = load_file(directory / ONE)
    tensors[name] = change(tensors[name]).contiguous()
    save_file(tensors, directory / ONE, {"format": "pt"})


def original(subject, name):
    return load_file(subject.directory / ONE)[name]


def test_a_right_checkpoint_is_proved(subject, tmp_path):
    edit = Ablate(direction(subject))
    bake(subject, edit, tmp_path)
    proof = prove(subject, edit, tmp_path, TEXTS)
    assert proof.component < 1e-5 < 0.1 < proof.component_unedited
    assert proof.stream_difference <= proof.stream_tolerance
    assert proof.logit_difference <= proof.logit_tolerance


@pytest.mark.parametrize("rank", [1, 3])
def test_a_partial_edit_is_proved(rank, toys, tmp_path):
    edit = Ablate(direction(toys("gpt2"), rank=rank), 0.3)
    bake(toys("gpt2"), edit, tmp_path)
    assert prove(toys("gpt2"), edit, tmp_path, TEXTS).component > 0.05


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_strength_0_is_proved_to_change_nothing(kind, toys, tmp_path):
    edit = Ablate(direction(toys(kind)), 0.0)
    bake(toys(kind), edit, tmp_path)
    proof = prove(toys(kind), edit, tmp_path, TEXTS)
    assert max(proof.stream_difference, proof.logit_difference) < 1e-6
    assert proof.component == pytest.approx(proof.component_unedited, rel=1e-5)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "granite", "gemma"])
def test_rounding_to_half_precision_is_within_the_allowance(kind, tmp_path):
    subject = load(toy(kind, tmp_path / "base", dtype=torch.bfloat16))
    edit = Ablate(direction(subject))
    (tmp_path / "edited").mkdir()
    bake(subject, edit, tmp_path / "edited")
    prove(subject, edit, tmp_path / "edited", TEXTS)


@pytest.mark.parametrize(("kind", "strength", "layers"), [("llama", 0.3, {1}), ("gpt2", 1.0, {None, 2})])
def test_any_one_writer_left_out_fails(kind, strength, layers, toys, tmp_path):
    subject = toys(kind)
    edit = Ablate(direction(subject), strength)
    bake(subject, edit, tmp_path)
    chosen = [writer for writer in subject.anatomy.writers if writer.layer in layers]
    for name in [writer.parameter for writer in chosen]:
        right = load_file(tmp_path / ONE)[name]
        tamper(tmp_path, name, lambda t, name=name: original(subject, name))
        with pytest.raises(VerificationFailed, match="stream"):
            prove(subject, edit, tmp_path, TEXTS)
        tamper(tmp_path, name, lambda t, right=right: right)
    prove(subject, edit, tmp_path, TEXTS)


def test_a_writer_left_out_fails_in_half_precision_too(tmp_path):
    subject = load(toy("llama", tmp_path / "base", dtype=torch.bfloat16))
    edit = Ablate(direction(subject))
    (tmp_path / "edited").mkdir()
    bake(subject, edit, tmp_path / "edited")
    for writer in subject.anatomy.writers[1:3]:
        right = load_file(tmp_path / "edited" / ONE)[writer.parameter]
        tamper(tmp_path / "edited", writer.parameter, lambda t, name=writer.parameter: original(subject, name))
        with pytest.raises(VerificationFailed, match="stream"):
            prove(subject, edit, tmp_path / "edited", TEXTS)
        tamper(tmp_path / "edited", writer.parameter, lambda t, right=right: right)


def one_entry_changed(t):
    t = t.clone()
    t.view(-1)[0] += 1.0
    return t


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(torch.zeros_like, id="zeros"),
        pytest.param(lambda t: t.flip(0), id="rows in another order"),
        pytest.param(lambda t: t * float("nan"), id="nan"),
        pytest.param(lambda t: t * 1.01, id="one percent too large"),
        pytest.param(one_entry_changed, id="one entry"),
    ],
)
@pytest.mark.parametrize("name", ["model.layers.1.mlp.down_proj.weight", "model.layers.2.mlp.up_proj.weight"])
def test_a_corrupted_tensor_fails(llama, name, change, tmp_path):
    edit = Ablate(direction(llama))
    bake(llama, edit, tmp_path)
    tamper(tmp_path, name, change)
    with pytest.raises(VerificationFailed):
        prove(llama, edit, tmp_path, TEXTS)


def test_a_stream_that_is_no_number_fails(llama, tmp_path):
    edit = Ablate(direction(llama))
    bake(llama, edit, tmp_path)
    tamper(tmp_path, "model.layers.1.mlp.down_proj.weight", lambda t: t * float("nan"))
    with pytest.raises(VerificationFailed, match=r"stream .* nan"):
        prove(llama, edit, tmp_path, TEXTS)


def test_another_strength_or_direction_fails(llama, tmp_path):
    bake(llama, Ablate(direction(llama), 0.9), tmp_path)
    for edit in (Ablate(direction(llama)), Ablate(direction(llama, seed=1), 0.9)):
        with pytest.raises(VerificationFailed):
            prove(llama, edit, tmp_path, TEXTS)


def test_a_head_that_is_still_tied_fails(toys, tmp_path):
    subject = toys("qwen2")
    edit = Ablate(direction(subject))
    bake(subject, edit, tmp_path)
    tensors = load_file(tmp_path / ONE)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, tmp_path / ONE, {"format": "pt"})
    with pytest.raises(VerificationFailed):
        prove(subject, edit, tmp_path, TEXTS)


def test_a_missing_tensor_fails(llama, tmp_path):
    """transformers would draw new values for it and only log that it did."""
    edit = Ablate(direction(llama))
    bake(llama, edit, tmp_path)
    tensors = load_file(tmp_path / ONE)
    del tensors["model.layers.1.mlp.down_proj.weight"]
    save_file(tensors, tmp_path / ONE, {"format": "pt"})
    with pytest.raises(VerificationFailed):
        prove(llama, edit, tmp_path, TEXTS)


@pytest.mark.parametrize("keep", [0, 100, 0.5])
def test_a_file_that_was_cut_short_fails(llama, keep, tmp_path):
    edit = Ablate(direction(llama))
    bake(llama, edit, tmp_path)
    data = (tmp_path / ONE).read_bytes()
    (tmp_path / ONE).write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    with pytest.raises(VerificationFailed):
        prove(llama, edit, tmp_path, TEXTS)


def test_no_file_fails(llama, tmp_path):
    edit = Ablate(direction(llama))
    bake(llama, edit, tmp_path)
    (tmp_path / ONE).unlink()
    with pytest.raises(VerificationFailed):
        prove(llama, edit, tmp_path, TEXTS)


def test_proving_leaves_the_original_as_it_was(llama, tmp_path):
    before = {name: value.clone() for name, value in llama.model.state_dict().items()}
    placed = hooks(llama.model)
    edit = Ablate(direction(llama))
    bake(llama, edit, tmp_path)
    prove(llama, edit, tmp_path, TEXTS)
    assert all(torch.equal(value, before[name]) for name, value in llama.model.state_dict().items())
    assert hooks(llama.model) == placed
