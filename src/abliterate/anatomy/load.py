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
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from abliterate.anatomy.dissect import Anatomy, dissect
from abliterate.errors import MissingChatTemplate, ModelNotFound, SettingsError, UnsupportedModel
from abliterate.files import digest

INDEX = "model.safetensors.index.json"
OTHER_WEIGHTS = {".bin", ".gguf", ".pt", ".pth", ".safetensors"}
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
    """

    source: str
    revision: str
    directory: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    storage_dtype: torch.dtype
    config_hash: str
    chat_template: Path | None = None

    @cached_property
    def anatomy(self) -> Anatomy:
        """Blocks and residual writers, found on first use.

        Raises:
            UnsupportedModel: as `dissect`.
        """
        return dissect(self.model)

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
    storage = _storage_dtype(directory)
    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=trust_remote_code)
        if getattr(config, "quantization_config", None) is not None:
            raise UnsupportedModel(f"{source} is quantised", "use the unquantised checkpoint it was made from")
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=trust_remote_code)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=_compute_dtype(dtype, storage, target),
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # so that the report names them: _check_complete refuses
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
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
    )


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files that transformers loads; others (a vendor's own layout, an adapter) are not the model.

    Raises:
        ModelNotFound: there are none, or the index names a file that is missing.
    """
    single, index = directory / "model.safetensors", directory / INDEX
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ModelNotFound(f"{index} is not a readable index ({error})", "download it again") from error
        if missing := [name for name in names if not (directory / name).is_file()]:
            raise ModelNotFound(f"{directory} lacks {missing[0]}, which its index names", "download it completely")
        return [directory / name for name in names]
    if single.is_file():
        return [single]
    other = next((p.name for p in sorted(directory.iterdir()) if p.suffix in OTHER_WEIGHTS), None)
    found = f" (found {other})" if other else ""
    raise ModelNotFound(
        f"{directory} has no safetensors weights{found}",
        "download the weights too, or convert them with transformers' save_pretrained",
    )


def checkpoint_bytes(directory: Path) -> int:
    """Total size of a checkpoint's weights."""
    return sum(path.stat().st_size for path in weight_files(directory))


def _fetch(source: str, revision: str | None, *, code: bool) -> tuple[Path, str]:
    """The local directory of a model, downloaded when it is a hub id, and its commit."""
    path = Path(source).expanduser()
    if path.is_dir():
        _check_directory(path)
        return path, "local"
    if path.exists():
        raise ModelNotFound(f"{source} is a file", "pass the directory that holds config.json and the weights")
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise ModelNotFound(f"there is no directory {source}", "check the path, or pass a hub id like owner/name")
    try:
        patterns = [*FETCHED, "*.py"] if code else list(FETCHED)
        directory = Path(snapshot_download(source, revision=revision, allow_patterns=patterns))
    except (OSError, ValueError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise ModelNotFound(
            f"{source} is neither a directory here nor a model that could be fetched ({_first_line(error)})",
            "check the spelling, the network and your access to it, or pass a local directory",
        ) from error
    _check_directory(directory)
    return directory, directory.name


def _check_directory(path: Path) -> None:
    if not (path / "config.json").is_file():
        raise ModelNotFound(f"{path} has no config.json", "pass the directory of a transformers checkpoint")
    weight_files(path)


def _storage_dtype(directory: Path) -> torch.dtype:
    """The dtype of most of the stored numbers, read from the tensor headers (config.json may not say)."""
    names = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    sizes: dict[str, int] = {}
    for path in weight_files(directory):
        try:
            with safe_open(path, "pt") as file:
                for key in file.keys():  # noqa: SIM118 - not a dict
                    part = file.get_slice(key)
                    count = 1
                    for side in part.get_shape():
                        count *= side
                    sizes[part.get_dtype()] = sizes.get(part.get_dtype(), 0) + count
        except SafetensorError as error:
            raise ModelNotFound(
                f"{path} is not a readable safetensors file ({error})", "download the weights again"
            ) from error
    common = max(sizes, key=lambda name: sizes[name], default="F32")
    if common not in names:
        raise UnsupportedModel(f"the weights in {directory} are stored as {common}", "use an unquantised checkpoint")
    return names[common]


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
