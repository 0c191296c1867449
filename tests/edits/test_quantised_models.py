"""From end to end: a tiny model is quantised on disk, edited there, and loaded by transformers, on a CPU.

transformers dequantises FP8 and MXFP4 checkpoints where there is no GPU, by itself or when it is asked to, so what is
compared is the very code that others will load the files with.
"""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, FineGrainedFP8Config, GptOssConfig, GptOssForCausalLM, Mxfp4Config

from abliterate.anatomy.load import load, read_config, weight_files
from abliterate.edits.edit import Ablate
from abliterate.edits.hooks import edited
from abliterate.edits.quantconfig import read_stored
from abliterate.edits.quantised import Plain, recognise
from abliterate.edits.requantise import RequantError
from tests.packing import fp8, mxfp4
from tests.toys import STOPS, VOCABULARY, apart, direction, logits, randomise, sentences, toy

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


def edit_on_disk(directory, out, writers, basis):
    """Fold every writer (on-disk name, axis) in a copy; the sum of what storing the quantised ones cost."""
    shutil.copytree(directory, out)
    scheme = recognise(read_config(directory), read_stored(weight_files(directory)))
    tensors, total, sealed = load_file(directory / FILE), RequantError(), 0
    for name, axis in writers:
        found = scheme.editable(name)
        if isinstance(found, Plain):
            moved = tensors[name].double().movedim(axis, -1)
            tensors[name] = ablated(moved, basis).movedim(-1, axis).to(tensors[name].dtype).contiguous()
        else:
            parts, error = found.refold(tensors, lambda matrix: ablated(matrix, basis), axis, basis)
            tensors, total, sealed = tensors | parts, total + error, sealed + 1
    save_file(tensors, out / FILE, {"format": "pt"})
    return total, sealed


def ablated(vectors, basis):
    return vectors - (vectors @ basis.T) @ basis


def dequantised(directory, settings):
    return AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, quantization_config=settings, device_map="cpu"
    ).eval()


def stream(model):
    """Inputs of every block, [blocks, tokens, d] in float64."""
    with torch.inference_mode():
        states = model(input_ids=torch.tensor([TEXT]), output_hidden_states=True, use_cache=False).hidden_states
    return torch.stack(states[:-1])[:, 0].double()  # the last is behind the final norm


def component(model, unedited, basis):
    """Of the stream along a basis, relative to the unedited model's, at the worst block."""
    return float(((stream(model) @ basis.T).norm(dim=1) / (stream(unedited) @ basis.T).norm(dim=1)).max())


@pytest.mark.parametrize("kept", [(), ("o_proj",), ("o_proj", "down_proj")])
def test_an_fp8_checkpoint_edited_on_disk_is_the_hooked_model_within_the_measured_error(kept, tmp_path):
    """`kept`: writers that the quantiser left in full precision, as `modules_to_not_convert` lists them."""
    settings = FP8 | {"modules_to_not_convert": ["lm_head", *kept]}
    small = quantise(toy("llama", tmp_path / "full", **WIDE), tmp_path / "fp8", settings, blocks_of_64(kept))
    original = dequantised(small, FineGrainedFP8Config(dequantize=True))
    base = tmp_path / "plain"  # the numbers that the FP8 checkpoint stands for, stored in full
    shutil.copytree(tmp_path / "full", base)
    save_file({n: t.contiguous() for n, t in original.state_dict().items()}, base / FILE, {"format": "pt"})
    subject = load(base)
    edit = Ablate(direction(subject))
    basis = edit.direction.basis
    writers = [(writer.weight, writer.out_axis) for writer in subject.anatomy.writers]
    error, packed = edit_on_disk(small, tmp_path / "edited", writers, basis)
    assert packed == 3 * (2 - len(kept))
    with edited(subject, edit):
        hooked = logits(subject.model, TEXT)
    model = dequantised(tmp_path / "edited", FineGrainedFP8Config(dequantize=True))
    compare(model, original, hooked, error, basis)
    by_itself = AutoModelForCausalLM.from_pretrained(tmp_path / "edited", dtype=torch.float32).eval()
    if not torch.cuda.is_available():  # it falls back to dequantising
        assert torch.equal(logits(by_itself, TEXT), logits(model, TEXT))


def compare(model, original, hooked, error, basis):
    distance = apart(logits(model, TEXT), hooked)
    left = component(model, original, basis)

    assert apart(logits(original, TEXT), hooked) > 0.2, "the edit is one that shows"
    assert distance < (5 * error.relative if error.before else 1e-5)
    assert left < (1e-3 if error.before else 1e-5)


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
    small = quantise(tmp_path / "full", tmp_path / "mxfp4", MXFP4, gpt_oss_experts)
    original = dequantised(small, Mxfp4Config(dequantize=True))
    basis = torch.nn.functional.normalize(torch.randn(1, 128, dtype=torch.float64), dim=1)
    writers = [("model.embed_tokens.weight", 1)]
    for layer in range(2):
        prefix = f"model.layers.{layer}."
        writers += [(f"{prefix}self_attn.o_proj.weight", 0), (f"{prefix}self_attn.o_proj.bias", 0)]
        writers += [(f"{prefix}mlp.experts.down_proj", 2), (f"{prefix}mlp.experts.down_proj_bias", 1)]
    error, packed = edit_on_disk(small, tmp_path / "edited", writers, basis)
    assert packed == 2
    model = dequantised(tmp_path / "edited", Mxfp4Config(dequantize=True))
    handles = hook(original, basis)
    hooked = logits(original, TEXT)
    for handle in handles:
        handle.remove()
    compare(model, original, hooked, error, basis)


def hook(model, basis):
    """Ablate what the embedding, the attentions and the expert layers of a gpt-oss return."""

    def after(module, args, output):
        if isinstance(output, tuple):
            return (ablated(output[0].double(), basis).float(), *output[1:])
        return ablated(output.double(), basis).float()

    modules = [model.model.embed_tokens, *(part for b in model.model.layers for part in (b.self_attn.o_proj, b.mlp))]
    return [module.register_forward_hook(after) for module in modules]
