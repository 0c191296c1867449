"""From end to end: a tiny model is quantised on disk, edited there, and loaded by transformers, on a CPU.

transformers dequantises FP8 and MXFP4 checkpoints where there is no GPU, by itself or when it is asked to, so what is
compared is the very code that others will load the files with.
"""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GptOssConfig, GptOssForCausalLM

from abliterate.anatomy.checkpoint import stored_tensors
from abliterate.anatomy.load import load, read_config
from abliterate.edits.bake import Plan, bake
from abliterate.edits.edit import Ablate
from abliterate.edits.hooks import edited
from abliterate.edits.proof import prove
from abliterate.errors import UnsupportedModel
from tests.packing import fp8, mxfp4
from tests.toys import STOPS, VOCABULARY, apart, byte_tokenizer, direction, logits, randomise, sentences, toy

TEXT = sentences(1)[0]
FILE = "model.safetensors"
WIDE = {"hidden_size": 128, "head_dim": 32, "intermediate_size": 192}
FP8 = {"quant_method": "fp8", "weight_block_size": [64, 64], "activation_scheme": "dynamic"}
MXFP4 = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}


def quantise(base, out, settings, convert):
    """Copy a checkpoint with some tensors replaced by `convert(name, tensor)`, and its config saying so."""
    shutil.copytree(base, out)
    tensors = {}
    for name, tensor in load_file(base / FILE).items():
        tensors |= convert(name, tensor)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out / FILE, {"format": "pt"})
    config = read_config(out) | {"quantization_config": settings}
    (out / "config.json").write_text(json.dumps(config))
    return out


def blocks_of_64(kept):
    def convert(name, tensor):
        if tensor.dim() != 2 or any(part in name for part in ("embed", "lm_head", *kept)):
            return {name: tensor}
        codes, scales = fp8(tensor, (64, 64))
        return {name: codes, f"{name}_scale_inv": scales}

    return convert


def gpt_oss_experts(name, tensor):
    if not name.endswith(("gate_up_proj", "down_proj")):
        return {name: tensor}
    codes, exponents = mxfp4(tensor.mT)
    return {f"{name}_blocks": codes.unflatten(-1, (-1, 16)), f"{name}_scales": exponents}


@pytest.mark.parametrize("kept", [(), ("o_proj",), ("o_proj", "down_proj")])
def test_an_fp8_checkpoint_edited_on_disk_is_the_hooked_model_within_the_measured_error(kept, tmp_path):
    """`kept`: writers that the quantiser left in full precision, as `modules_to_not_convert` lists them."""
    settings = FP8 | {"modules_to_not_convert": ["lm_head", *kept]}
    small = quantise(toy("llama", tmp_path / "full", **WIDE), tmp_path / "fp8", settings, blocks_of_64(kept))
    out = check(small, tmp_path / "edited", packed=3 * (2 - len(kept)))
    before, after = (load_file(folder / FILE) for folder in (small, out))
    assert {n: (t.dtype, t.shape) for n, t in before.items()} == {n: (t.dtype, t.shape) for n, t in after.items()}
    by_itself = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    if not torch.cuda.is_available():  # it falls back to dequantising
        assert torch.equal(logits(by_itself, TEXT), logits(load(out).model, TEXT))


def test_an_mxfp4_checkpoint_edited_on_disk_is_the_hooked_model_within_the_measured_error(tmp_path):
    """gpt-oss: fused, transposed experts in MXFP4 with plain biases; attention and embeddings in full."""
    config = GptOssConfig(
        **STOPS,
        **WIDE,
        vocab_size=VOCABULARY,
        num_hidden_layers=2,
        num_local_experts=4,
        num_experts_per_tok=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    )
    full = GptOssForCausalLM(config)
    randomise(full, seed=0)
    full.save_pretrained(tmp_path / "full")
    byte_tokenizer().save_pretrained(tmp_path / "full")
    small = quantise(tmp_path / "full", tmp_path / "mxfp4", MXFP4, gpt_oss_experts)
    check(small, tmp_path / "edited", packed=2)


def check(small, out, packed):
    """Bake a quantised checkpoint, prove it, and look at what is left of the component and how far the logits are."""
    subject = load(small)
    edit = Ablate(direction(subject))
    out.mkdir()
    baked = bake(subject, edit, out)
    plan = Plan.of(subject, stored_tensors(small))
    assert len(plan.packed) == packed and set(baked.edited) == set(plan.folds)
    proof = prove(subject, edit, out, sentences(3), baked.requantised)
    with edited(subject, edit):
        hooked = logits(subject.model, TEXT)
    assert apart(logits(subject.model, TEXT), hooked) > 0.2, "the edit is one that shows"
    if packed:
        assert 1e-3 < proof.weight_error < 0.2
        assert proof.component < 1e-3 * proof.component_unedited
        assert proof.logit_difference < 5 * proof.weight_error
    else:
        assert baked.requantised is None
        assert proof.component < 1e-5 > proof.logit_difference
    return out


def test_a_checkpoint_that_cannot_be_edited_is_refused_before_anything_is_written(tmp_path):
    """As GPTQ stores it; the unquantised model stands in for what its kernels would load."""
    base = toy("llama", tmp_path / "base", **WIDE)
    subject = load(base)
    edit = Ablate(direction(subject))
    tensors = load_file(base / FILE)
    name = "model.layers.1.mlp.down_proj"
    del tensors[f"{name}.weight"]
    packed = {"qweight": torch.zeros(24, 128, dtype=torch.int32), "scales": torch.zeros(2, 128, dtype=torch.float16)}
    save_file(tensors | {f"{name}.{part}": value for part, value in packed.items()}, base / FILE, {"format": "pt"})
    settings = {"quant_method": "gptq", "bits": 4}
    (base / "config.json").write_text(json.dumps(read_config(base) | {"quantization_config": settings}))
    (tmp_path / "edited").mkdir()
    with pytest.raises(UnsupportedModel, match=r"down_proj.weight cannot be edited on the disk: gptq .* hooks"):
        bake(subject, edit, tmp_path / "edited")
    assert not list((tmp_path / "edited").iterdir())
