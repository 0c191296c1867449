"""Loading a model to study: weights, tokenizer, chat format, and its anatomy, with errors a user can act on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from abliterate.anatomy.checkpoint import Stored, storage_dtype, stored_tensors, weight_files
from abliterate.anatomy.classes import dequantising, model_class
from abliterate.anatomy.dissect import Anatomy
from abliterate.anatomy.study import Study, study
from abliterate.errors import MissingChatTemplate, ModelNotFound, SettingsError, UnsupportedModel
from abliterate.files import digest

FETCHED = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "LICENSE*")
# Keys of config.json that say nothing about the function the model computes.
VOLATILE = (
    "_name_or_path",
    "abliterate",
    "architectures",
    "dtype",
    "torch_dtype",
    "transformers_version",
    "use_cache",
)


@dataclass(frozen=True)
class Subject:
    """The model under study.

    Attributes:
        source: the directory or hub id that the user gave.
        revision: the hub commit, or `local`.
        directory: where its files lie on this machine.
        model: the weights, in evaluation mode, in the dtype of computation.
        tokenizer: with a chat template.
        storage_dtype: the dtype of the checkpoint's weights.
        config_hash: SHA-256 of its architecture.
        chat_template: the file that replaced the tokenizer's own template, or None.
        trust_remote_code: whether code that comes with the model may run.
    """

    source: str
    revision: str
    directory: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    storage_dtype: torch.dtype
    config_hash: str
    chat_template: Path | None = None
    trust_remote_code: bool = False

    @cached_property
    def study(self) -> Study:
        """The model's anatomy, and where it lies on disk, found on first use from its configuration.

        Raises:
            UnsupportedModel: as `study`.
        """
        return study(self.model.config, trust_remote_code=self.trust_remote_code)

    @property
    def anatomy(self) -> Anatomy:
        """Blocks, residual writers and hook sites.

        Raises:
            UnsupportedModel: as `study`.
        """
        return self.study.anatomy

    @property
    def name(self) -> str:
        """The last part of the source, for titles and default paths."""
        return Path(self.source).name or "model"


def load(
    source: str | Path,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    chat_template: Path | None = None,
    trust_remote_code: bool = False,
) -> Subject:
    """Load a causal language model from a directory or a hub id.

    Args:
        source: a directory with `config.json` and safetensors files, or a hub id.
        revision: a hub branch, tag or commit.
        dtype: dtype of computation; `auto` is the checkpoint's own, but float32 on a CPU, which has no fast half.
        device: `auto` is the first of cuda, mps, cpu.
        chat_template: a Jinja file to use instead of the tokenizer's template.
        trust_remote_code: run code that comes with the model. Off unless the user says so.

    Raises:
        ModelNotFound: no such model, or no safetensors weights.
        MissingChatTemplate: the tokenizer has none and `chat_template` is not given.
        UnsupportedModel: the checkpoint is no causal language model that transformers can build.
        SettingsError: an unknown dtype or device.
    """
    target = _device(device)
    directory, commit = _fetch(str(source), revision, code=trust_remote_code)
    storage = storage_dtype(directory)
    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=trust_remote_code)
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=trust_remote_code)
        loaded: Any = model_class(config)[0].from_pretrained(
            directory,
            dtype=_compute_dtype(dtype, storage, target),
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # so that the report names them: _check_complete refuses
            output_loading_info=True,
            **dequantising(config),
        )
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        remedy = "check that it is a complete causal language model that your transformers version knows"
        if "trust_remote_code" in str(error):
            remedy = "its own code is needed; read it, and pass --trust-remote-code if you trust it"
        raise UnsupportedModel(f"transformers cannot load {source}: {_first_line(error)}", remedy) from error
    model, report = loaded
    _check_complete(report, str(source))
    _set_template(tokenizer, chat_template, str(source))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = tokenizer.eos_token_id  # masked wherever it is used
    return Subject(
        str(source),
        commit,
        directory,
        torch.nn.Module.to(model, target).eval().requires_grad_(False),
        tokenizer,
        storage,
        digest({k: v for k, v in config.to_dict().items() if k not in VOLATILE}),
        chat_template,
        trust_remote_code,
    )


def load_config(
    source: str | Path, *, revision: str | None = None, trust_remote_code: bool = False
) -> tuple[Path, PreTrainedConfig, dict[str, Stored] | None]:
    """Where a model's files are, its configuration, and the tensors of its checkpoint where that is on this machine.

    Of a model on the hub nothing but the configuration is fetched.

    Raises:
        ModelNotFound: no such model, or a damaged checkpoint.
        UnsupportedModel: transformers does not know its type.
    """
    directory, _ = _fetch(str(source), revision, code=trust_remote_code, weights=False)
    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise UnsupportedModel(
            f"transformers cannot read the configuration of {source}: {_first_line(error)}",
            "use a transformers version that knows it, or --trust-remote-code if you trust its own code",
        ) from error
    here = Path(source).expanduser().is_dir() and any(directory.glob("*.safetensors"))
    return directory, config, stored_tensors(directory) if here else None


def _fetch(source: str, revision: str | None, *, code: bool, weights: bool = True) -> tuple[Path, str]:
    """The local directory of a model, downloaded when it is a hub id, and its commit."""
    path = Path(source).expanduser()
    if path.is_dir():
        _check_directory(path, weights=weights)
        return path, "local"
    if path.exists():
        raise ModelNotFound(f"{source} is a file", "pass the directory that holds config.json and the weights")
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise ModelNotFound(f"there is no directory {source}", "check the path, or pass a hub id like owner/name")
    try:
        patterns = list(FETCHED) if weights else ["config.json"]
        patterns += ["*.py"] if code else []
        directory = Path(snapshot_download(source, revision=revision, allow_patterns=patterns))
    except (OSError, ValueError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise ModelNotFound(
            f"{source} is neither a directory here nor a model that could be fetched ({_first_line(error)})",
            "check the spelling, the network and your access to it, or pass a local directory",
        ) from error
    _check_directory(directory, weights=weights)
    return directory, directory.name


def _check_directory(path: Path, *, weights: bool) -> None:
    if not (path / "config.json").is_file():
        raise ModelNotFound(f"{path} has no config.json", "pass the directory of a transformers checkpoint")
    if weights:
        weight_files(path)


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("a meta device holds no numbers")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(f"there is no device {name!r} here", "use auto, cpu, cuda or mps") from error
    return device


def _compute_dtype(name: str, storage: torch.dtype, device: torch.device) -> torch.dtype:
    known = {
        "float64": torch.float64,
        "float32": torch.float32,
        "float16": torch.float16,
        "bfloat16": torch.bfloat16,
    }
    if name == "auto":
        half = storage in (torch.float16, torch.bfloat16)
        return torch.float32 if half and device.type == "cpu" else storage
    if name not in known:
        raise SettingsError(f"unknown dtype {name!r}", f"use auto or one of {', '.join(known)}")
    return known[name]


def _check_complete(report: Mapping[str, Any], source: str) -> None:
    """Refuse a checkpoint that leaves weights to chance: transformers draws those at random and only logs it."""
    if missing := sorted(report["missing_keys"]):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UnsupportedModel(f"the checkpoint of {source} lacks {missing[0]}{more}", "download it completely")
    if unfit := sorted(report["mismatched_keys"]):
        name, stored, wanted = unfit[0]
        raise UnsupportedModel(
            f"{source} stores {name} as {tuple(stored)}, but its config.json asks for {tuple(wanted)}",
            "weights and config.json do not belong together; download both again",
        )


def _set_template(tokenizer: PreTrainedTokenizerBase, chat_template: Path | None, source: str) -> None:
    if chat_template is not None:
        try:
            tokenizer.chat_template = chat_template.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise MissingChatTemplate(
                f"cannot read the chat template {chat_template} ({_first_line(error)})",
                "pass a Jinja text file",
            ) from error
    if not tokenizer.chat_template:
        raise MissingChatTemplate(
            f"the tokenizer of {source} has no chat template", "pass one with --chat-template FILE.jinja"
        )


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]


def read_config(directory: Path) -> dict[str, object]:
    """The parsed config.json of a checkpoint."""
    config: dict[str, object] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return config
