"""Edits as values, and who may use them on what."""

from dataclasses import replace

import pytest
import torch

from abliterate.directions.direction import Direction
from abliterate.edits.edit import Ablate, Add
from abliterate.edits.hooks import edited
from abliterate.errors import DirectionMismatch, SettingsError
from tests.toys import WIDTH, direction, hooks, provenance


@pytest.mark.parametrize("strength", [-0.1, 2.1, float("nan"), float("inf")])
def test_a_strength_out_of_range_is_a_settings_error(llama, strength):
    with pytest.raises(SettingsError, match="strength"):
        Ablate(direction(llama), strength)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(WIDTH,), (5, WIDTH), (2, 5, WIDTH), (0, WIDTH)])
def test_activations_keep_shape_and_dtype(llama, shape, dtype):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    copy = x.clone()
    for edit in (Ablate(direction(llama)), Add(direction(llama))):
        y = edit.apply(x)
        assert (y.shape, y.dtype) == (x.shape, x.dtype)
        assert torch.equal(x, copy), "not in place"


def test_activations_need_not_be_contiguous(llama):
    x = torch.randn(WIDTH, 5, generator=torch.Generator().manual_seed(0)).T
    edit = Ablate(direction(llama))
    torch.testing.assert_close(edit.apply(x), edit.apply(x.contiguous()))


def test_half_precision_activations_are_ablated_in_float32(llama):
    """The basis rounded to bfloat16 would leave most of 1 % of the component; what is left is the result's rounding."""
    edit = Ablate(direction(llama))
    x = torch.randn(1000, WIDTH, generator=torch.Generator().manual_seed(0)).bfloat16()
    exact = x.double() - (x.double() @ edit.direction.basis.T) @ edit.direction.basis
    off = (edit.apply(x).double() - exact).abs()
    assert (off <= exact.abs() * torch.finfo(torch.bfloat16).eps / 2 + 1e-6).all()


def test_addition_keeps_the_raw_norm(llama):
    raw = torch.randn(WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 7
    found = Direction.from_vector(raw, position=-1, layer=1, provenance=provenance(llama))
    zero = torch.zeros(2, 3, WIDTH, dtype=torch.float64)
    torch.testing.assert_close(Add(found, -0.5).apply(zero), (-0.5 * raw).expand(2, 3, -1))


def test_addition_acts_where_the_direction_was_read_unless_told_otherwise(llama):
    assert Add(direction(llama, layer=2)).block == 2
    assert Add(direction(llama, layer=2), layer=0).block == 0


@pytest.mark.parametrize("wrong", [{"config_hash": "0" * 64}, {"width": 64}, {"layers": 5}])
@pytest.mark.parametrize("change", [Ablate, Add])
def test_a_direction_of_another_model_is_refused_before_any_hook_is_placed(llama, change, wrong):
    found = direction(llama)
    other = replace(found, provenance=replace(found.provenance, **wrong))
    before = hooks(llama.model)
    with pytest.raises(DirectionMismatch), edited(llama, change(other)):
        raise AssertionError("entered")
    assert hooks(llama.model) == before
