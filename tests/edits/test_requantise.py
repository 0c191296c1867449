"""Editing FP8 and MXFP4 matrices: decoded as transformers does, stored in place, and the edit survives the rounding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import FineGrainedFP8Config
from transformers.integrations.finegrained_fp8 import Fp8Dequantize
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from abliterate.edits.quantised import recognise
from abliterate.edits.requantise import Packed, RequantError
from abliterate.edits.rounding import float4, float8
from abliterate.errors import UnsupportedModel
from tests.packing import fp8, headers, mxfp4

E8M0, E2M1 = torch.float8_e8m0fnu, torch.float4_e2m1fn_x2


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.02


def basis(width, rank=1, seed=1):
    vectors = torch.randn(width, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(vectors).Q.T.contiguous()


def ablation(q, strength=1.0):
    return lambda vectors: vectors - strength * (vectors @ q.T) @ q


def identity(vectors):
    return vectors


def as_fp8(weight, block, scale_dtype=torch.float32):
    codes, scales = fp8(weight, block, scale_dtype)
    packed = Packed("w", "s", codes.dtype, tuple(weight.shape), block, scale_dtype)
    return packed, {"w": codes, "s": scales}


def as_mxfp4(weight, kind="gpt_oss"):
    """The same codes in the three layouts that are in use."""
    codes, exponents = mxfp4(weight)
    if kind == "gpt_oss":
        tensors = {"x.down_proj_blocks": codes.unflatten(-1, (-1, 16)), "x.down_proj_scales": exponents}
        return recognise({"quantization_config": {"quant_method": "mxfp4"}}, headers(tensors)), "x.down_proj", tensors
    if kind == "deepseek_v4":
        tensors = {"x.weight": codes.view(torch.int8), "x.scale": exponents.view(E8M0)}
        return recognise({"quantization_config": {"quant_method": "fp8"}}, headers(tensors)), "x.weight", tensors
    tensors = {"x.weight_packed": codes, "x.weight_scale": exponents}
    config = {"quantization_config": {"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized"}}
    return recognise(config, headers(tensors)), "x.weight", tensors


# Decoding


def test_the_grids_hold_every_finite_value_of_their_formats():
    assert float8(torch.float8_e4m3fn).largest == 448
    assert len(float8(torch.float8_e4m3fn).values) == 256 - 2 - 1  # two NaN, two zeros
    assert len(float8(torch.float8_e5m2).values) == 256 - 8 - 1  # and two infinities
    assert float4().values.tolist() == [-6, -4, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 6]


@pytest.mark.parametrize("scale_dtype", [torch.float32, torch.bfloat16, E8M0, torch.uint8])
@pytest.mark.parametrize("block", [(16, 16), (1, 64), (32, 64), (1, 32)])
def test_fp8_is_dequantised_as_transformers_does(block, scale_dtype):
    packed, tensors = as_fp8(drawn(32, 64), block, scale_dtype)
    theirs = Fp8Dequantize(None)._dequantize_one(tensors["w"], tensors["s"], torch.float32)
    assert torch.equal(packed.dequantise(tensors), theirs)


def test_stacked_fp8_experts_are_dequantised_as_transformers_does():
    packed, tensors = as_fp8(drawn(3, 32, 64), (16, 32))
    theirs = Fp8Dequantize(None)._dequantize_one(tensors["w"], tensors["s"], torch.float32)
    assert torch.equal(packed.dequantise(tensors), theirs)


def test_mxfp4_of_gpt_oss_is_dequantised_as_transformers_does():
    """Every byte and a range of scales; the module holds the transpose."""
    blocks = torch.arange(256, dtype=torch.uint8).repeat(6).reshape(2, 12, 4, 16)
    scales = torch.randint(100, 140, (2, 12, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    tensors = {"x.down_proj_blocks": blocks, "x.down_proj_scales": scales}
    packed = recognise({"quantization_config": {"quant_method": "mxfp4"}}, headers(tensors)).how("x.down_proj")
    theirs = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    assert theirs.shape == (2, 128, 12)
    assert torch.equal(packed.dequantise(tensors), theirs)


def test_mxfp4_of_deepseek_v4_is_dequantised_as_transformers_does():
    scheme, name, tensors = as_mxfp4(drawn(32, 64), "deepseek_v4")
    theirs = Fp8Dequantize(None)._dequantize_one(tensors["x.weight"], tensors["x.scale"], torch.float32)
    assert torch.equal(scheme.how(name).dequantise(tensors), theirs)


def test_the_three_layouts_of_mxfp4_hold_the_same_numbers():
    weight = drawn(2, 32, 64)
    decoded = {}
    for kind in ("gpt_oss", "deepseek_v4", "compressed"):
        scheme, name, tensors = as_mxfp4(weight, kind)
        decoded[kind] = scheme.how(name).dequantise(tensors)
    assert torch.equal(decoded["gpt_oss"].mT, decoded["compressed"])
    assert torch.equal(decoded["deepseek_v4"], decoded["compressed"])


def test_our_quantiser_for_tests_is_that_of_transformers():
    from types import SimpleNamespace

    from transformers.integrations.finegrained_fp8 import Fp8Quantize

    quantizer = SimpleNamespace(quantization_config=FineGrainedFP8Config(weight_block_size=(16, 16)))
    theirs = Fp8Quantize(quantizer)._quantize_one("x.weight", drawn(32, 64))
    codes, scales = fp8(drawn(32, 64), (16, 16))
    assert torch.allclose(theirs["x.weight_scale_inv"], scales, rtol=1e-6)
    assert (theirs["x.weight"].float() - codes.float()).ne(0).sum() <= 2  # a tie that the reciprocal breaks


# Storing again

dimension = st.integers(1, 40)


@settings(max_examples=60, deadline=None)
@given(
    rows=dimension,
    columns=dimension,
    block=st.tuples(dimension, dimension),
    scale_dtype=st.sampled_from([torch.float32, torch.bfloat16, E8M0, torch.uint8]),
    axis=st.integers(0, 1),
    seed=st.integers(0, 1000),
)
def test_an_edit_that_changes_nothing_keeps_every_byte_of_fp8(rows, columns, block, scale_dtype, axis, seed):
    packed, tensors = as_fp8(drawn(rows, columns, seed=seed), block, scale_dtype)
    q = basis((rows, columns)[axis])
    parts, error = packed.refold(tensors, identity, axis, q)
    assert_same_bytes(parts, tensors)
    assert error.relative == 0 and error.component_left == pytest.approx(error.component_wanted)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), rows=dimension, groups=st.integers(1, 3), scale=st.integers(1, 250))
def test_any_bytes_of_mxfp4_are_kept_by_an_edit_that_changes_nothing(data, rows, groups, scale):
    """Negative zeros too, and blocks that use none of the largest values."""
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    blocks = torch.randint(0, 256, (2, rows, groups, 16), dtype=torch.uint8, generator=generator)
    scales = torch.full((2, rows, groups), scale, dtype=torch.uint8)
    tensors = {"x.down_proj_blocks": blocks, "x.down_proj_scales": scales}
    packed = recognise({}, headers(tensors)).how("x.down_proj")
    parts, _ = packed.refold(tensors, identity, 2, basis(rows))
    assert_same_bytes(parts, tensors)
    parts, _ = packed.refold(tensors, lambda v: v + 0.0, 2)  # equal, and another tensor
    assert_same_bytes(parts, tensors)


def test_negative_zeros_stay_where_other_numbers_change():
    packed, tensors = as_fp8(drawn(16, 16), (16, 16))
    tensors["w"].view(torch.uint8)[3, 5] = 128
    q = torch.zeros(1, 16, dtype=torch.float64)
    q[0, 0] = 1  # the edit zeroes row 0 and leaves the others
    parts, _ = packed.refold(tensors, ablation(q), 0, q)
    assert not parts["w"][0].float().any()
    assert torch.equal(parts["w"][1:].view(torch.uint8), tensors["w"][1:].view(torch.uint8))
    assert torch.equal(parts["s"], tensors["s"])


@pytest.mark.parametrize("kind", ["gpt_oss", "deepseek_v4", "compressed"])
def test_an_edited_mxfp4_matrix_has_its_names_dtypes_and_shapes_and_its_error_is_the_measured_one(kind):
    scheme, name, tensors = as_mxfp4(drawn(2, 96, 64), kind)
    packed, q = scheme.how(name), basis(96)
    axis = 2 if kind == "gpt_oss" else 1
    parts, error = packed.refold(tensors, ablation(q), axis, q)
    assert_measured(packed, tensors, parts, error, q, axis)


@pytest.mark.parametrize("scale_dtype", [torch.float32, torch.bfloat16, E8M0, torch.uint8])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("block", [(16, 16), (128, 128), (1, 90), (70, 90)])
def test_an_edited_fp8_matrix_has_its_names_dtypes_and_shapes_and_its_error_is_the_measured_one(
    scale_dtype, axis, block
):
    """On either axis, with blocks that do not divide the matrix, a scale a row, and one for all of it."""
    packed, tensors = as_fp8(drawn(70, 90), block, scale_dtype)
    q = basis((70, 90)[axis])
    parts, error = packed.refold(tensors, ablation(q), axis, q)
    assert_measured(packed, tensors, parts, error, q, axis)


def test_the_pieces_that_a_large_matrix_is_worked_on_in_make_no_difference(monkeypatch):
    packed, tensors = as_fp8(drawn(70, 90), (16, 16))
    q = basis(70)
    whole, error = packed.refold(tensors, ablation(q), 0, q)
    monkeypatch.setattr("abliterate.edits.requantise.ROOM", 1)
    pieces, sum_of_errors = packed.refold(tensors, ablation(q), 0, q)
    assert_same_bytes(pieces, whole)
    assert sum_of_errors.relative == pytest.approx(error.relative)


# What rounding does to an edit


@pytest.mark.parametrize("form", ["fp8", "mxfp4"])
def test_rounding_to_the_nearest_value_undoes_most_of_an_edit_and_chosen_roundings_keep_it(form):
    """512 wide: the larger the model, the worse the nearest value does (docs/quantised.md has figures for 4096)."""
    weight = drawn(512, 256)
    packed, tensors = as_fp8(weight, (128, 128)) if form == "fp8" else gpt_oss_of(weight)
    q = basis(512)
    _, error = packed.refold(tensors, ablation(q), -1 if packed.transposed else 0, q)
    assert error.component_wanted < 1e-12
    assert error.component_left < 1e-4
    assert error.nearest_component_left > (0.05 if form == "fp8" else 0.5)
    assert error.nearest_relative < error.relative < 2 * error.nearest_relative
    assert error.relative < (0.03 if form == "fp8" else 0.08)


def gpt_oss_of(weight):
    scheme, name, tensors = as_mxfp4(weight[None])
    return scheme.how(name), tensors


@pytest.mark.parametrize("strength", [0.5, 1.5, 2.0])
def test_a_partial_strength_leaves_what_it_should(strength):
    packed, tensors = as_fp8(drawn(512, 128), (128, 128))
    q = basis(512)
    _, error = packed.refold(tensors, ablation(q, strength), 0, q)
    assert error.component_wanted == pytest.approx(abs(1 - strength))
    assert error.component_left == pytest.approx(abs(1 - strength), abs=1e-4)


@pytest.mark.parametrize("form", ["fp8", "mxfp4"])
def test_several_directions_are_removed_together(form):
    weight = drawn(512, 128)
    packed, tensors = as_fp8(weight, (128, 128)) if form == "fp8" else gpt_oss_of(weight)
    q = basis(512, rank=3)
    _, error = packed.refold(tensors, ablation(q), -1 if packed.transposed else 0, q)
    assert error.component_left < 0.02 < error.nearest_component_left


def test_a_block_that_no_longer_fits_its_scale_gets_another():
    """An edit that makes numbers ten times larger would be cut off at the old scale's end."""
    for packed, tensors, axis in (*[(*as_fp8(drawn(32, 32), (16, 16)), 0)], (*gpt_oss_of(drawn(32, 32)), 2)):
        parts, error = packed.refold(tensors, lambda v: 10 * v, axis)
        assert error.relative < (0.03 if axis == 0 else 0.15)
        assert bool((parts[packed.scale] != tensors[packed.scale]).all())


def test_the_scale_of_a_block_of_zeros_is_no_trap():
    weight = drawn(32, 32)
    weight[:16, :16] = 0
    packed, tensors = as_fp8(weight, (16, 16))
    assert tensors["s"][0, 0] == 0
    tensors["w"].view(torch.uint8)[:16, :16] = 0
    q = basis(32)
    parts, error = packed.refold(tensors, ablation(q), 0, q)
    assert_measured(packed, tensors, parts, error, q, 0)
    assert error.relative < 0.1


def test_codes_and_scales_that_are_not_finite_are_refused():
    packed, tensors = as_fp8(drawn(32, 32), (16, 16))
    broken = {**tensors, "w": tensors["w"].clone()}
    broken["w"].view(torch.uint8)[0, 0] = 127
    with pytest.raises(UnsupportedModel, match=r"w holds numbers that are not finite"):
        packed.refold(broken, identity, 0)
    broken = {**tensors, "s": tensors["s"] * torch.inf}
    with pytest.raises(UnsupportedModel, match=r"s holds numbers that are not finite"):
        packed.dequantise(broken)


def test_errors_of_several_matrices_add_up():
    total = RequantError(1, 4, 100, 9, 16, 0, 25) + RequantError(3, 5, 0, 0, 0, 0, 75)
    assert (total.relative, total.nearest_relative) == (0.2, 0.3)
    assert (total.component_left, total.nearest_component_left, total.component_wanted) == (0.3, 0.4, 0)
    assert RequantError().relative == 0


def assert_same_bytes(parts, tensors):
    assert parts.keys() == tensors.keys()
    for name, part in parts.items():
        assert part.dtype == tensors[name].dtype and part.shape == tensors[name].shape
        assert torch.equal(part.view(torch.uint8), tensors[name].contiguous().view(torch.uint8))


def assert_measured(packed, tensors, parts, error, q, axis):
    """Same layout; and the error that was reported is the one that decoding the parts shows."""
    assert {n: (t.dtype, t.shape) for n, t in parts.items()} == {n: (t.dtype, t.shape) for n, t in tensors.items()}
    before, after = (packed.dequantise(x, torch.float64).movedim(axis, -1) for x in (tensors, parts))
    exact = ablation(q)(before)
    assert error.relative == pytest.approx(float((after - exact).norm() / exact.norm()))
    left = float((after @ q.T).norm() / (before @ q.T).norm())
    assert error.component_left == pytest.approx(left, abs=1e-9)
    assert left < 0.02
