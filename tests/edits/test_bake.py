"""What a baked checkpoint looks like on the disk: its names, its files, and what it says of itself."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from abliterate.anatomy.checkpoint import checkpoint_bytes
from abliterate.anatomy.load import load
from abliterate.edits.bake import bake, baked_bytes, describe
from abliterate.edits.edit import Ablate
from abliterate.edits.hooks import edited
from abliterate.edits.proof import prove
from abliterate.errors import DirectionMismatch, UnsupportedModel
from tests.toys import apart, build, byte_tokenizer, direction, logits, sentences, toy

TEXT = sentences(1)[0]
INDEX = "model.safetensors.index.json"
ONE = "model.safetensors"


def sharded(kind, directory):
    build(kind).save_pretrained(directory, max_shard_size="30KB")
    byte_tokenizer().save_pretrained(directory)
    return directory


def new(path):
    path.mkdir()
    return path


def rewrite(directory, change):
    """Change the tensors of a checkpoint in place."""
    tensors = change(load_file(directory / ONE))
    save_file(tensors, directory / ONE, {"format": "pt"})


def baked_well(base, out):
    """Bake and compare with the hooks; return the subject and what was done."""
    subject = load(base)
    edit = Ablate(direction(subject))
    done = bake(subject, edit, new(out))
    with edited(subject, edit):
        hooked = logits(subject.model, TEXT)
    model = AutoModelForCausalLM.from_pretrained(out).eval()
    assert apart(logits(model, TEXT), hooked) < 1e-5
    return subject, done


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2"])
def test_a_sharded_checkpoint_stays_sharded_and_its_index_right(kind, tmp_path):
    _, done = baked_well(sharded(kind, tmp_path / "base"), tmp_path / "edited")
    before, after = (json.loads((d / INDEX).read_text()) for d in (tmp_path / "base", tmp_path / "edited"))
    assert len(set(before["weight_map"].values())) > 2
    shards = {p.name: load_file(p) for p in (tmp_path / "edited").glob("*.safetensors")}
    assert after["weight_map"] == {name: shard for shard, tensors in shards.items() for name in tensors}
    assert set(after["weight_map"]) - set(before["weight_map"]) == set(done.untied)
    held = [t for tensors in shards.values() for t in tensors.values()]
    assert after["metadata"]["total_size"] == sum(t.numel() * t.element_size() for t in held)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_the_index_of_a_sharded_checkpoint_counts_every_parameter(kind, tmp_path):
    baked_well(sharded(kind, tmp_path / "base"), tmp_path / "edited")
    metadata = json.loads((tmp_path / "edited" / INDEX).read_text())["metadata"]
    held = [t for p in (tmp_path / "edited").glob("*.safetensors") for t in load_file(p).values()]
    assert metadata["total_parameters"] == sum(t.numel() for t in held)


def test_tensors_that_the_model_does_not_load_are_kept_byte_for_byte(tmp_path):
    base = toy("llama", tmp_path / "base")
    extra = {
        "mtp.head.weight": torch.randn(4, 32).to(torch.bfloat16),
        "mtp.steps": torch.arange(5),
        "mtp.small": torch.randn(3, 3).to(torch.float8_e4m3fn),
    }
    rewrite(base, lambda tensors: tensors | extra)
    baked_well(base, tmp_path / "edited")
    kept = load_file(tmp_path / "edited" / ONE)
    for name, value in extra.items():
        assert kept[name].dtype == value.dtype
        assert torch.equal(kept[name].view(torch.uint8), value.view(torch.uint8))


def test_a_checkpoint_of_the_bare_decoder_keeps_its_short_names(tmp_path):
    """As GPT-2 is published: `h.0...` where the causal model says `transformer.h.0...`."""
    base = toy("gpt2", tmp_path / "base")
    rewrite(base, lambda tensors: {name.removeprefix("transformer."): t for name, t in tensors.items()})
    _, done = baked_well(base, tmp_path / "edited")
    assert set(load_file(tmp_path / "edited" / ONE)) == {*load_file(base / ONE), "lm_head.weight"}
    assert "h.0.attn.c_proj.weight" in done.edited


def test_a_tied_head_that_is_stored_all_the_same_is_untied(tmp_path):
    """Some checkpoints hold the head beside the embedding it is tied to; its stored values are the embedding's."""
    base = toy("qwen2", tmp_path / "base")
    rewrite(base, lambda tensors: tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()})
    baked_well(base, tmp_path / "edited")
    config = json.loads((tmp_path / "edited" / "config.json").read_text())
    assert config["tie_word_embeddings"] is False, "readers that trust the config would tie it to the edited embedding"


def test_a_tensor_stored_under_another_name_is_an_error_that_names_it(llama, tmp_path):
    base = toy("llama", tmp_path / "base")
    subject = load(base)
    _ = subject.anatomy
    rewrite(base, lambda t: {name.replace("layers.1.mlp.down_proj", "layers.1.mlp.w2"): v for name, v in t.items()})
    with pytest.raises(UnsupportedModel, match=r"model\.layers\.1\.mlp\.down_proj\.weight"):
        bake(subject, Ablate(direction(subject)), new(tmp_path / "edited"))


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_config_and_tensor_files_say_that_the_model_is_edited(kind, toys, tmp_path):
    subject = toys(kind)
    edit = Ablate(direction(subject, layer=2), 0.8)
    bake(subject, edit, tmp_path)
    mark = json.loads((tmp_path / "config.json").read_text())["abliterate"]
    with safe_open(tmp_path / ONE, "pt") as file:
        assert json.loads(file.metadata()["abliterate"]) == mark
        assert file.metadata()["format"] == "pt"
    assert (mark["strength"], mark["rank"], mark["layer"], mark["position"]) == (0.8, 1, 2, -1)
    assert mark["base_model"] == subject.name and mark["base_revision"] == "local"
    assert str(subject.directory.parent) not in json.dumps(mark), "no path of this machine"
    assert mark == describe(subject, edit)


def test_the_rest_of_the_config_stays(subject, tmp_path):
    bake(subject, Ablate(direction(subject)), tmp_path)
    before, after = (json.loads((d / "config.json").read_text()) for d in (subject.directory, tmp_path))
    del after["abliterate"]
    if subject.study.layout.tied_head:
        assert after.pop("tie_word_embeddings") is False
        before.pop("tie_word_embeddings", None)
    assert after == before
    assert AutoConfig.from_pretrained(tmp_path).abliterate["edit"]


def test_the_tokenizer_comes_along(llama, tmp_path):
    bake(llama, Ablate(direction(llama)), tmp_path)
    chat = [{"role": "user", "content": "Hi"}]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.apply_chat_template(chat, tokenize=False) == llama.tokenizer.apply_chat_template(
        chat, tokenize=False
    )


def test_another_chat_template_comes_along(tmp_path):
    template = tmp_path / "other.jinja"
    template.write_text("{{ messages[0].content }}!")
    subject = load(toy("llama", tmp_path / "base"), chat_template=template)
    bake(subject, Ablate(direction(subject)), new(tmp_path / "edited"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "edited")
    assert tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False) == "Hi!"


def test_an_edited_model_can_be_loaded_and_edited_again(toys, tmp_path):
    """Its head is untied by then, and its record of the first edit gives way to the second's."""
    first = toys("qwen2")
    bake(first, Ablate(direction(first)), new(tmp_path / "once"))
    second = load(tmp_path / "once")
    assert not second.study.layout.tied_head
    edit = Ablate(direction(second, seed=1), 0.5)
    done = bake(second, edit, new(tmp_path / "twice"))
    assert done.untied == ()
    prove(second, edit, tmp_path / "twice", sentences(2))


def test_the_room_that_is_asked_for_is_enough(subject, tmp_path):
    bake(subject, Ablate(direction(subject)), tmp_path)
    assert checkpoint_bytes(tmp_path) < baked_bytes(subject)
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < baked_bytes(subject)


def test_a_direction_of_another_model_is_refused_before_anything_is_written(llama, tmp_path):
    found = direction(llama)
    other = replace(found, provenance=replace(found.provenance, config_hash="0" * 64))
    with pytest.raises(DirectionMismatch):
        bake(llama, Ablate(other), tmp_path)
    assert not list(tmp_path.iterdir())
