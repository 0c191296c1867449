"""A checkpoint as it lies on disk: its files, and the name, shape and dtype of every tensor, without reading any."""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from abliterate.errors import ModelNotFound

INDEX = "model.safetensors.index.json"
OTHER_WEIGHTS = {".bin", ".gguf", ".pt", ".pth", ".safetensors"}
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class Stored:
    """A tensor on disk.

    Attributes:
        dtype: as safetensors spells it (`BF16`, `F8_E4M3`, `U8`, ...).
        shape: its sizes.
        file: name of the file that holds it.
    """

    dtype: str
    shape: tuple[int, ...]
    file: str = ""


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


def stored_tensors(directory: Path) -> dict[str, Stored]:
    """Every tensor of a checkpoint, read from the headers of its files.

    Raises:
        ModelNotFound: a file is damaged.
    """
    tensors: dict[str, Stored] = {}
    for path in weight_files(directory):
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118 - not a dict
                    part = file.get_slice(name)
                    tensors[name] = Stored(part.get_dtype(), tuple(part.get_shape()), path.name)
        except SafetensorError as error:
            raise ModelNotFound(
                f"{path} is not a readable safetensors file ({error})", "download the weights again"
            ) from error
    return tensors


def storage_dtype(directory: Path) -> torch.dtype:
    """The dtype of most of the stored floating-point numbers (config.json may not say); of quantised ones the rest."""
    sizes: dict[str, int] = {}
    for tensor in stored_tensors(directory).values():
        if tensor.dtype in DTYPES:
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + prod(tensor.shape)
    return DTYPES[max(sizes, key=lambda name: sizes[name], default="F32")]
