"""Loading a model: what a subject knows of itself, and every mistake a user can make."""

import json
import shutil

import huggingface_hub.errors
import pytest
import torch
from safetensors.torch import load_file, save_file

from abliterate.anatomy import load as module
from abliterate.anatomy.load import load
from abliterate.errors import MissingChatTemplate, ModelNotFound, SettingsError, UnsupportedModel
from tests.toys import TEMPLATE, toy

ONE = "model.safetensors"


@pytest.fixture
def base(llama, tmp_path):
    """A copy of the llama toy to spoil."""
    return shutil.copytree(llama.directory, tmp_path / "base")


def configure(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_subject_is_ready_for_use(llama):
    assert not llama.model.training
    assert not any(parameter.requires_grad for parameter in llama.model.parameters())
    assert llama.tokenizer.chat_template == TEMPLATE
    assert llama.revision == "local"
    assert llama.storage_dtype == torch.float32


@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16, torch.float16])
def test_the_storage_dtype_is_read_from_the_tensors_and_a_cpu_computes_in_float32(storage, tmp_path):
    directory = toy("llama", tmp_path, dtype=storage)
    configure(directory, dtype="float64")
    subject = load(directory, device="cpu")
    assert (subject.storage_dtype, subject.model.dtype) == (storage, torch.float32)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_the_dtype_of_computation_can_be_chosen(dtype, base):
    assert load(base, dtype=dtype).model.dtype == getattr(torch, dtype)


def test_the_config_hash_says_what_the_model_computes(base, llama, tmp_path):
    """Not where it lies, nor by which version or tool it was written."""
    configure(base, transformers_version="9", _name_or_path="elsewhere", abliterate={"strength": 1.0}, use_cache=False)
    assert load(base).config_hash == llama.config_hash
    configure(base, rms_norm_eps=1e-3)
    assert load(base).config_hash != llama.config_hash


def test_a_missing_pad_token_is_the_end_token(base):
    path = base / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["pad_token"]
    path.write_text(json.dumps(config))
    tokenizer = load(base).tokenizer
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


def test_a_chat_template_from_a_file_replaces_the_tokenizers(base, tmp_path):
    (tmp_path / "t.jinja").write_text("{{ messages[0].content }}")
    subject = load(base, chat_template=tmp_path / "t.jinja")
    assert subject.tokenizer.chat_template == "{{ messages[0].content }}"
    assert subject.chat_template == tmp_path / "t.jinja"


@pytest.mark.parametrize("path", ["./no/such/place", "/no/such/place", "~/no such place", "a/b/c"])
def test_a_directory_that_is_not_there(path):
    with pytest.raises(ModelNotFound, match="there is no directory"):
        load(path)


def test_a_file_instead_of_a_directory(base):
    with pytest.raises(ModelNotFound, match=r"model\.safetensors is a file"):
        load(base / ONE)


def test_a_directory_without_config(tmp_path):
    with pytest.raises(ModelNotFound, match=r"no config\.json"):
        load(tmp_path)


def test_a_directory_without_weights(base):
    (base / ONE).unlink()
    with pytest.raises(ModelNotFound, match="no safetensors weights:"):
        load(base)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model-Q4_0.gguf", "consolidated.00.pth"])
def test_a_directory_with_other_weights_names_them(base, name):
    (base / ONE).rename(base / name)
    with pytest.raises(ModelNotFound, match=rf"no safetensors weights \(found {name}\)"):
        load(base)


def test_no_chat_template(base):
    (base / "chat_template.jinja").unlink()
    with pytest.raises(MissingChatTemplate, match="--chat-template"):
        load(base)


@pytest.mark.parametrize("data", [None, b"\xff\xfe"])
def test_a_chat_template_that_cannot_be_read(base, tmp_path, data):
    if data is not None:
        (tmp_path / "t.jinja").write_bytes(data)
    with pytest.raises(MissingChatTemplate, match=r"cannot read the chat template .*t\.jinja"):
        load(base, chat_template=tmp_path / "t.jinja")


def test_an_empty_chat_template(base, tmp_path):
    (tmp_path / "t.jinja").write_text("")
    with pytest.raises(MissingChatTemplate, match="no chat template"):
        load(base, chat_template=tmp_path / "t.jinja")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "", "meta"])
def test_an_unknown_device(base, device):
    with pytest.raises(SettingsError, match=f"no device '{device}'"):
        load(base, device=device)


@pytest.mark.parametrize("dtype", ["half", "int8", ""])
def test_an_unknown_dtype(base, dtype):
    with pytest.raises(SettingsError, match=f"unknown dtype '{dtype}'"):
        load(base, dtype=dtype)


def test_a_quantised_config(base):
    configure(base, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    with pytest.raises(UnsupportedModel, match="quantised"):
        load(base)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_quantised_weights(base, dtype):
    save_file({name: t.to(dtype) for name, t in load_file(base / ONE).items()}, base / ONE, {"format": "pt"})
    with pytest.raises(UnsupportedModel, match=r"stored as (I8|F8_E4M3)"):
        load(base)


def test_a_damaged_weight_file(base):
    (base / ONE).write_bytes((base / ONE).read_bytes()[:500])
    with pytest.raises(ModelNotFound, match="not a readable safetensors file"):
        load(base)


def test_a_config_that_is_not_json(base):
    (base / "config.json").write_text("{")
    with pytest.raises(UnsupportedModel, match=r"config\.json"):
        load(base)


@pytest.mark.parametrize("kind", ["no_such_type", "t5"])
def test_a_model_that_is_no_causal_language_model(base, kind):
    configure(base, model_type=kind)
    with pytest.raises(UnsupportedModel, match=r"transformers (cannot load|has no causal)"):
        load(base)


def test_weights_that_do_not_fit_the_config(base):
    configure(base, intermediate_size=56)
    with pytest.raises(UnsupportedModel):
        load(base)


def test_a_checkpoint_that_lacks_a_tensor(base):
    """transformers would draw random values for it and only log that it did."""
    tensors = load_file(base / ONE)
    del tensors["model.layers.1.mlp.down_proj.weight"]
    save_file(tensors, base / ONE, {"format": "pt"})
    with pytest.raises((ModelNotFound, UnsupportedModel), match=r"model\.layers\.1\.mlp\.down_proj\.weight"):
        load(base)


def test_a_tokenizer_that_is_missing(base):
    for path in base.glob("tokenizer*"):
        path.unlink()
    with pytest.raises((ModelNotFound, UnsupportedModel, MissingChatTemplate)):
        load(base)


@pytest.mark.parametrize(
    "error",
    [
        OSError("no route to host"),
        huggingface_hub.errors.LocalEntryNotFoundError("not in the cache"),
        huggingface_hub.errors.OfflineModeIsEnabled("offline"),
        huggingface_hub.errors.HFValidationError("not an id"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_hub_id_that_cannot_be_fetched(monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(module, "snapshot_download", fail)
    with pytest.raises(ModelNotFound, match=r"owner/name .*could be fetched"):
        load("owner/name")


@pytest.mark.parametrize("source", ["owner/no-such-model", "no-such-model", "not an id!"])
def test_a_hub_id_without_a_network(source):
    """The real client, which conftest.py keeps offline."""
    with pytest.raises(ModelNotFound, match=f"{source} is neither a directory here nor a model"):
        load(source)


def test_a_hub_model_knows_its_commit(monkeypatch, base):
    commit = base.rename(base.with_name("a" * 40))
    asked = {}
    monkeypatch.setattr(module, "snapshot_download", lambda *args, **kwargs: asked.update(kwargs, id=args[0]) or commit)
    subject = load("owner/name", revision="main")
    assert (subject.revision, subject.source, subject.name) == ("a" * 40, "owner/name", "name")
    assert asked["revision"] == "main" and "*.bin" not in asked["allow_patterns"]


def test_a_hub_model_without_safetensors(monkeypatch, base):
    (base / ONE).rename(base / "pytorch_model.bin")
    monkeypatch.setattr(module, "snapshot_download", lambda *args, **kwargs: base)
    with pytest.raises(ModelNotFound, match="no safetensors weights"):
        load("owner/name")
