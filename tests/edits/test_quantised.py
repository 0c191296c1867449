"""Small checkpoints of every kind: what is recognised, what is edited, and what is refused with which reason."""

import json

import pytest
import torch
from safetensors.torch import save_file

from abliterate.anatomy.checkpoint import Stored, stored_tensors
from abliterate.edits.quantised import Absent, Plain, Scheme, Sealed, recognise
from abliterate.edits.requantise import Packed
from abliterate.errors import UnsupportedModel
from tests.packing import fp8, headers, mxfp4

OUT, DOWN = "model.layers.0.self_attn.o_proj.weight", "model.layers.0.mlp.down_proj.weight"
EMBED = "model.embed_tokens.weight"
HIDDEN, INNER = 64, 128


def half(*shape):
    return torch.zeros(shape, dtype=torch.bfloat16)


def ints(*shape, dtype=torch.int32):
    return torch.zeros(shape, dtype=dtype)


def checkpoint(writers, settings, **config):
    """A config and the headers of a one-block model whose two writers are stored in some way."""
    tensors = {
        EMBED: half(300, HIDDEN),
        "model.layers.0.input_layernorm.weight": half(HIDDEN),
        "model.layers.0.self_attn.o_proj.bias": half(HIDDEN),
        "model.norm.weight": half(HIDDEN),
        "lm_head.weight": half(300, HIDDEN),
        **writers,
    }
    if settings is not None:
        config["quantization_config"] = settings
    return recognise(config, headers(tensors))


def under(name, parts):
    """Tensors of a module by their last names."""
    stem = name.removesuffix("weight")
    return {stem + part: tensor for part, tensor in parts.items()}


def nf4(rows, columns):
    return {
        "weight": ints(rows * columns // 2, 1, dtype=torch.uint8),
        "weight.absmax": ints(rows * columns // 64, dtype=torch.uint8),
        "weight.quant_map": torch.zeros(16),
        "weight.nested_absmax": torch.zeros(1),
        "weight.nested_quant_map": torch.zeros(256),
        "weight.quant_state.bitsandbytes__nf4": ints(90, dtype=torch.uint8),
    }


def int8(rows, columns):
    return {"weight": ints(rows, columns, dtype=torch.int8), "SCB": torch.zeros(rows), "weight_format": ints(1)}


def gptq(rows, columns):
    return {
        "qweight": ints(columns // 8, rows),
        "qzeros": ints(1, rows // 8),
        "scales": torch.zeros(1, rows, dtype=torch.float16),
        "g_idx": ints(columns),
    }


def awq(rows, columns):
    return {
        "qweight": ints(columns, rows // 8),
        "qzeros": ints(1, rows // 8),
        "scales": torch.zeros(1, rows, dtype=torch.float16),
    }


def packed_int4(rows, columns):
    return {
        "weight_packed": ints(rows, columns // 8),
        "weight_scale": half(rows, 1),
        "weight_shape": ints(2, dtype=torch.int64),
    }


def nvfp4(rows, columns):
    return {
        "weight_packed": ints(rows, columns // 2, dtype=torch.uint8),
        "weight_scale": torch.zeros(rows, columns // 16).to(torch.float8_e4m3fn),
        "weight_global_scale": torch.zeros(1),
        "input_global_scale": torch.zeros(1),
    }


def w8a8(rows, columns):
    return {"weight": ints(rows, columns, dtype=torch.int8), "weight_scale": half(rows, 1)}


def bitnet(rows, columns):
    return {"weight": ints(rows // 4, columns, dtype=torch.uint8), "weight_scale": half(1)}


def compressed(form):
    return {"quant_method": "compressed-tensors", "format": form, "config_groups": {"group_0": {"format": None}}}


SEALED = {
    "bitsandbytes (4-bit, nf4)": (
        nf4,
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
        "scales that are themselves quantised",
    ),
    "bitsandbytes (8-bit)": (int8, {"quant_method": "bitsandbytes", "load_in_8bit": True}, "as codes"),
    "gptq (4-bit)": (gptq, {"quant_method": "gptq", "bits": 4}, "make up for one another"),
    "awq (4-bit)": (awq, {"quant_method": "awq", "bits": 4}, "searched on calibration data"),
    "compressed-tensors (pack-quantized)": (packed_int4, compressed("pack-quantized"), "BF16, I32, I64, a format"),
    "compressed-tensors (nvfp4-pack-quantized)": (nvfp4, compressed("nvfp4-pack-quantized"), "a format that"),
    "compressed-tensors (int-quantized)": (w8a8, compressed("int-quantized"), "BF16, I8, a format"),
    "bitnet": (bitnet, {"quant_method": "bitnet"}, "three values"),
    "kitchen": (w8a8, {"quant_method": "kitchen"}, "kitchen in BF16, I8, a format"),
}


@pytest.mark.parametrize("title", SEALED)
def test_a_format_that_cannot_be_edited_is_refused_with_its_reason_and_the_way_out(title):
    make, settings, reason = SEALED[title]
    parts = under(DOWN, make(HIDDEN, INNER))
    scheme = checkpoint(under(OUT, make(HIDDEN, HIDDEN)) | parts, settings)
    assert scheme.name == title
    found = scheme.how(DOWN)
    assert isinstance(found, Sealed)
    assert set(found.parts) == set(parts), "all its tensors, and no bias"
    with pytest.raises(UnsupportedModel) as caught:
        scheme.editable(OUT)
    assert OUT in caught.value.problem and reason in caught.value.problem
    for way in ("unquantised original", "hooks"):
        assert way in caught.value.remedy


@pytest.mark.parametrize("title", [title for title in SEALED if title not in ("bitnet", "kitchen")])
def test_writers_that_the_quantiser_left_out_are_edited(title):
    """`modules_to_not_convert`, `ignore` and `llm_int8_skip_modules` show in the tensors."""
    make, settings, _ = SEALED[title]
    others = under("model.layers.0.mlp.up_proj.weight", make(INNER, HIDDEN))
    scheme = checkpoint({OUT: half(HIDDEN, HIDDEN), DOWN: half(HIDDEN, INNER), **others}, settings)
    for name in (OUT, DOWN, EMBED, "model.layers.0.self_attn.o_proj.bias"):
        assert scheme.editable(name) == Plain(name)
    assert isinstance(scheme.how("model.layers.0.mlp.up_proj.weight"), Sealed)


def test_plain_weights_are_edited_and_missing_ones_named():
    scheme = checkpoint({OUT: half(HIDDEN, HIDDEN), DOWN: half(HIDDEN, INNER)}, None)
    assert scheme.name == "none"
    assert scheme.how(OUT) == Plain(OUT)
    assert scheme.how("model.layers.1.mlp.down_proj.weight") == Absent()
    with pytest.raises(UnsupportedModel, match=r"no tensor model\.layers\.1"):
        scheme.editable("model.layers.1.mlp.down_proj.weight")


@pytest.mark.parametrize("settings", [{"quant_method": "bitsandbytes", "load_in_4bit": True}, {"quant_method": "hqq"}])
def test_a_scheme_that_rounds_plain_weights_when_it_loads_them_is_refused(settings):
    """Full-precision files with a bitsandbytes config: the edit would be rounded after it was written."""
    scheme = checkpoint({OUT: half(HIDDEN, HIDDEN), DOWN: half(HIDDEN, INNER)}, settings)
    with pytest.raises(UnsupportedModel, match=r"stored as BF16, but .* rounds it"):
        scheme.editable(OUT)
    assert scheme.editable("model.norm.weight") == Plain("model.norm.weight")


def test_bitnet_and_unknown_schemes_make_plain_weights_uneditable():
    plain = {OUT: half(HIDDEN, HIDDEN), DOWN: half(HIDDEN, INNER)}
    online = checkpoint(plain, {"quant_method": "bitnet", "quantization_mode": "online"})
    with pytest.raises(UnsupportedModel, match="bitnet rounds it when it is used"):
        online.editable(OUT)
    with pytest.raises(UnsupportedModel, match="kitchen is not known here"):
        checkpoint(plain, {"quant_method": "kitchen"}).editable(OUT)


def test_rotations_at_run_time_are_refused():
    settings = compressed("float-quantized") | {"transform_config": {"config_groups": {"u": {"type": "hadamard"}}}}
    scheme = checkpoint(fp8_writers() | {DOWN: half(HIDDEN, INNER)}, settings)
    for name in (OUT, DOWN):
        with pytest.raises(UnsupportedModel, match="rotates activations"):
            scheme.editable(name)


# FP8


def fp8_writers(scale="weight_scale_inv", block=(32, 32), scale_dtype=torch.float32, name=OUT, shape=(HIDDEN, HIDDEN)):
    codes, scales = fp8(torch.randn(shape), block, scale_dtype)
    return under(name, {"weight": codes, scale: scales})


FINE = {"quant_method": "fp8", "weight_block_size": [32, 32]}


@pytest.mark.parametrize("scale", ["weight_scale_inv", "scale", "qscale_weight"])
@pytest.mark.parametrize("scale_dtype", [torch.float32, torch.bfloat16, torch.float8_e8m0fnu])
def test_fp8_blocks_are_recognised_under_every_name_of_their_scales(scale, scale_dtype):
    scheme = checkpoint(fp8_writers(scale, scale_dtype=scale_dtype) | {DOWN: half(HIDDEN, INNER)}, FINE)
    assert scheme.name == "fp8 (blocks of 32 x 32)"
    stem = OUT.removesuffix("weight")
    expected = Packed(OUT, stem + scale, torch.float8_e4m3fn, (HIDDEN, HIDDEN), (32, 32), scale_dtype)
    assert scheme.editable(OUT) == expected
    assert scheme.editable(OUT).parts == (OUT, stem + scale)
    assert scheme.editable(DOWN) == Plain(DOWN), "listed in modules_to_not_convert"


@pytest.mark.parametrize(
    ("shape", "scales", "block"),
    [
        ((64, 128), (64, 1), (1, 128)),
        ((64, 128), (64,), (1, 128)),
        ((64, 128), (1,), (64, 128)),
        ((64, 128), (), (64, 128)),
        ((64, 128), (1, 1), (64, 128)),
        ((64, 128), (2, 4), (32, 32)),
        ((64, 128), (64, 4), (1, 32)),
        ((80, 96), (3, 3), (32, 32)),  # the last row of blocks is half a block: only the config can say so
        ((4, 64, 128), (4, 2, 4), (32, 32)),
        ((4, 64, 128), (4, 1, 1), (64, 128)),
        ((4, 64, 128), (4, 64, 1), (1, 128)),
    ],
)
def test_the_block_follows_from_the_shapes(shape, scales, block):
    stored = {"x.weight": Stored("F8_E4M3", shape), "x.weight_scale": Stored("F32", scales)}
    assert recognise({"quantization_config": FINE}, stored).editable("x.weight").block == block


@pytest.mark.parametrize(
    ("shape", "scales"), [((64, 128), (3, 4)), ((64, 128), (2,)), ((4, 64, 128), (1, 2, 4)), ((4, 64, 128), (4, 3, 3))]
)
def test_scales_that_fit_no_block_are_refused(shape, scales):
    stored = {"x.weight": Stored("F8_E4M3", shape), "x.weight_scale": Stored("F32", scales)}
    with pytest.raises(UnsupportedModel, match="belong together is not known"):
        recognise({"quantization_config": FINE}, stored).editable("x.weight")


@pytest.mark.parametrize(
    ("settings", "extra"),
    [
        (compressed("float-quantized"), {"input_scale": half(1)}),
        ({"quant_method": "fbgemm_fp8"}, {}),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, {"input_scale": torch.zeros(())}),
        ({"quant_method": "quark"}, {}),
        (None, {}),
    ],
)
def test_fp8_with_a_scale_a_row_or_a_matrix_is_recognised_from_whichever_tool(settings, extra):
    for block in ((1, HIDDEN), (HIDDEN, HIDDEN)):
        writers = fp8_writers("weight_scale", block) | under(OUT, extra)
        found = checkpoint(writers, settings).editable(OUT)
        assert isinstance(found, Packed) and found.block == block


def test_fp8_that_is_not_understood_is_refused():
    alone = {OUT: torch.zeros(8, 8).to(torch.float8_e4m3fn)}
    with pytest.raises(UnsupportedModel, match="without a scale"):
        checkpoint(alone, FINE).editable(OUT)
    shifted = fp8_writers("weight_scale") | under(OUT, {"weight_zero_point": half(1)})
    with pytest.raises(UnsupportedModel, match=r"what .*weight_zero_point does"):
        checkpoint(shifted, compressed("float-quantized")).editable(OUT)
    scaled = {OUT: half(8, 8)} | under(OUT, {"weight_scale": half(8, 1)})
    with pytest.raises(UnsupportedModel, match="which is applied is not known"):
        checkpoint(scaled, FINE).editable(OUT)


def test_fused_experts_in_fp8_keep_their_scales_beside_them():
    name = "model.layers.0.mlp.experts.down_proj"
    codes, scales = fp8(torch.randn(4, HIDDEN, INNER), (32, 32))
    scheme = checkpoint({name: codes, f"{name}_scale_inv": scales, f"{name}_bias": half(4, HIDDEN)}, FINE)
    assert scheme.editable(name).parts == (name, f"{name}_scale_inv")
    assert scheme.editable(f"{name}_bias") == Plain(f"{name}_bias")


# MXFP4


def test_mxfp4_of_gpt_oss_is_recognised_and_its_other_writers_are_plain():
    name = "model.layers.0.mlp.experts.down_proj"
    codes, exponents = mxfp4(torch.randn(4, HIDDEN, INNER))
    writers = {
        OUT: half(HIDDEN, HIDDEN),
        f"{name}_blocks": codes.unflatten(-1, (-1, 16)),
        f"{name}_scales": exponents,
        f"{name}_bias": half(4, HIDDEN),
    }
    settings = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}
    for scheme in (checkpoint(writers, settings), checkpoint(writers, None)):
        assert scheme.name == "mxfp4"
        found = scheme.editable(name)
        assert found.parts == (f"{name}_blocks", f"{name}_scales")
        assert (found.shape, found.block, found.transposed) == ((4, HIDDEN, INNER), (1, 32), True)
    scheme = checkpoint(writers, settings)
    assert scheme.editable(OUT) == Plain(OUT)
    assert scheme.editable(f"{name}_bias") == Plain(f"{name}_bias")


def test_other_four_bit_formats_are_not_taken_for_mxfp4():
    """Groups of 16, integers, second scales: all in bytes, all something else."""
    codes, exponents = mxfp4(torch.randn(HIDDEN, INNER))
    same_bytes = under(OUT, {"weight_packed": codes, "weight_scale": exponents})
    with pytest.raises(UnsupportedModel):
        checkpoint(same_bytes, compressed("pack-quantized")).editable(OUT)
    twice = same_bytes | under(OUT, {"weight_global_scale": torch.zeros(1)})
    with pytest.raises(UnsupportedModel):
        checkpoint(twice, compressed("mxfp4-pack-quantized")).editable(OUT)
    assert isinstance(checkpoint(same_bytes, compressed("mxfp4-pack-quantized")).editable(OUT), Packed)


# Configs


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({}, "none"),
        ({"quantization_config": None}, "none"),
        ({"text_config": {"quantization_config": FINE}}, "fp8 (blocks of 32 x 32)"),
        ({"compression_config": compressed("float-quantized")}, "compressed-tensors (float-quantized)"),
        ({"quantization_config": {"load_in_4bit": True}}, "bitsandbytes (4-bit, fp4)"),
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": None}}, "fp8"),
    ],
)
def test_the_config_is_found_wherever_it_stands(config, name):
    assert recognise(config, {}).name == name


@pytest.mark.parametrize(
    ("tensor", "stored", "name"),
    [
        ("x.weight.absmax", "F32", "bitsandbytes"),
        ("x.SCB", "F32", "bitsandbytes"),
        ("x.qweight", "I32", "gptq"),
        ("x.weight_packed", "I32", "compressed-tensors"),
        ("x.weight", "F8_E4M3", "fp8"),
        ("x.weight", "BF16", "none"),
    ],
)
def test_without_a_config_the_tensors_tell(tensor, stored, name):
    assert recognise({}, {tensor: Stored(stored, (4, 4))}).name == name


def test_headers_are_read_from_files_without_their_weights(tmp_path):
    codes, scales = fp8(torch.randn(64, 64), (32, 32), torch.float8_e8m0fnu)
    save_file({"a.weight": codes, "b": torch.zeros(2, 3, dtype=torch.bfloat16)}, tmp_path / "1.safetensors")
    save_file({"a.scale": scales}, tmp_path / "2.safetensors")
    files = {"a.weight": "1.safetensors", "b": "1.safetensors", "a.scale": "2.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    stored = stored_tensors(tmp_path)
    assert stored == {
        "a.weight": Stored("F8_E4M3", (64, 64), "1.safetensors"),
        "b": Stored("BF16", (2, 3), "1.safetensors"),
        "a.scale": Stored("F8_E8M0", (2, 2), "2.safetensors"),
    }
    assert isinstance(recognise({}, stored), Scheme)
