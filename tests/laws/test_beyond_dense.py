"""The laws on models that are not plainly dense: norms behind writers, experts, state spaces, a normalised stream."""

import pytest
import torch

from abliterate.anatomy.dissect import Form
from abliterate.anatomy.load import load
from abliterate.anatomy.view import look
from abliterate.edits.bake import bake, baked_bytes
from abliterate.edits.edit import Ablate, Add
from abliterate.edits.hooks import edited
from abliterate.edits.proof import prove
from abliterate.errors import UnsupportedModel
from tests.toys import apart, direction, hooks, logits, sentences, toy

TEXT = sentences(1)[0]
KINDS = ["gemma2", "mixtral", "mamba", "bert"]

# Logits of two ways to compute the same float32 model: some 1e2 operations deep, so 1e-5 is 1e2 eps.
SAME = 1e-5


@pytest.fixture(params=KINDS)
def beyond(request, toys):
    return toys(request.param)


def view(subject, edit):
    anatomy = subject.anatomy
    inputs = {"input_ids": torch.tensor([TEXT])}
    return look(subject.model, anatomy.blocks, inputs, edit.direction.basis, renewed=anatomy.renewed)


@pytest.mark.parametrize("rank", [1, 3])
def test_strength_1_leaves_no_component_anywhere(beyond, rank):
    edit = Ablate(direction(beyond, rank=rank))
    assert view(beyond, edit).largest > 0.1
    with edited(beyond, edit):
        seen = view(beyond, edit)
    assert seen.largest < 1e-6
    assert len(seen.places) > 3 * beyond.anatomy.layers, "inputs, reads and outputs"


def test_strength_0_leaves_every_bit_as_it_was(beyond):
    before = logits(beyond.model, TEXT)
    with edited(beyond, Ablate(direction(beyond), 0.0)):
        assert torch.equal(logits(beyond.model, TEXT), before)


@pytest.mark.parametrize("change", [Ablate, Add])
def test_leaving_restores_every_bit_on_exceptions_too(beyond, change):
    before, placed = logits(beyond.model, TEXT), hooks(beyond.model)
    weights = {name: value.clone() for name, value in beyond.model.state_dict().items()}
    with pytest.raises(KeyboardInterrupt), edited(beyond, change(direction(beyond))):
        assert apart(logits(beyond.model, TEXT), before) > 1e-2
        raise KeyboardInterrupt
    assert torch.equal(logits(beyond.model, TEXT), before) and hooks(beyond.model) == placed
    assert all(torch.equal(value, weights[name]) for name, value in beyond.model.state_dict().items())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bert"])
@pytest.mark.parametrize(("strength", "rank"), [(0.3, 1), (1.0, 3)])
def test_hooks_and_files_are_one_model(kind, strength, rank, toys, tmp_path):
    subject = toys(kind)
    edit = Ablate(direction(subject, rank=rank), strength)
    bake(subject, edit, tmp_path)
    proof = prove(subject, edit, tmp_path, sentences(3))
    assert proof.logit_difference < SAME
    assert proof.component < 1e-6 if strength == 1.0 else proof.component > 1e-2


@pytest.mark.parametrize("kind", ["gemma2", "mixtral"])
def test_half_precision_is_proved_within_its_rounding(kind, tmp_path):
    subject = load(toy(kind, tmp_path / "base", dtype=torch.bfloat16))
    edit = Ablate(direction(subject))
    (tmp_path / "edited").mkdir()
    bake(subject, edit, tmp_path / "edited")
    prove(subject, edit, tmp_path / "edited", sentences(3))


def test_weights_that_cannot_carry_an_edit_are_not_written(toys, tmp_path):
    subject = toys("bert")
    assert subject.anatomy.form is Form.HOOKS
    with pytest.raises(UnsupportedModel, match=r"cannot carry the edit: bert\.encoder.*as hooks"):
        baked_bytes(subject)
    with pytest.raises(UnsupportedModel, match="cannot carry the edit"):
        bake(subject, Ablate(direction(subject)), tmp_path)
    assert not list(tmp_path.iterdir())
