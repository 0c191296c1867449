"""What a config says of how weights are quantised, and what the headers of the files say of the tensors."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from abliterate.anatomy.checkpoint import Stored

FP8 = {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}
LOOKS = {  # what tensors' names end in, where the config is silent
    ".weight.absmax": "bitsandbytes",
    ".SCB": "bitsandbytes",
    ".qweight": "gptq",
    ".weight_packed": "compressed-tensors",
    "_proj_blocks": "mxfp4",
    "weight_scale_inv": "fp8",
}


@dataclass(frozen=True)
class Method:
    """How a checkpoint was quantised.

    Attributes:
        name: transformers' `quant_method`, or what the tensors look like where the config is silent, or None.
        title: the name with its variant, for people; `none` where nothing is quantised.
        block: rows and columns of an FP8 block, or None.
        formats: of compressed-tensors.
        rotated: whether the model multiplies activations by stored rotations as it runs.
    """

    name: str | None
    title: str
    block: tuple[int, int] | None
    formats: tuple[str, ...]
    rotated: bool


def read_method(config: Mapping[str, object], stored: Mapping[str, Stored]) -> Method:
    """The method of a checkpoint.

    Args:
        config: the parsed config.json.
        stored: every tensor of the checkpoint.
    """
    settings = _settings(config)
    method = _method(settings, stored)
    block = settings.get("weight_block_size")
    pair = tuple(int(side) for side in block) if isinstance(block, list | tuple) else ()
    groups = settings.get("config_groups")
    each = [settings, *(groups.values() if isinstance(groups, dict) else ())]
    found = [group.get("format") for group in each if isinstance(group, dict)]
    formats = tuple(dict.fromkeys(text for text in found if isinstance(text, str)))
    transform = settings.get("transform_config")
    rotated = isinstance(transform, dict) and bool(transform.get("config_groups"))
    size = (pair[0], pair[1]) if len(pair) == 2 else None
    return Method(method, _title(method, settings, size, formats), size, formats, rotated)


def _settings(config: Mapping[str, object]) -> Mapping[str, object]:
    """The quantisation part of a config, wherever it stands; empty without one."""
    for place in (config, config.get("text_config"), config.get("llm_config")):
        if isinstance(place, Mapping):
            for key in ("quantization_config", "compression_config"):
                found = place.get(key)
                if isinstance(found, Mapping):
                    return found
    return {}


def _method(settings: Mapping[str, object], stored: Mapping[str, Stored]) -> str | None:
    if settings.get("load_in_4bit") or settings.get("load_in_8bit"):
        return "bitsandbytes"
    if settings:
        return str(settings.get("quant_method", "unnamed"))
    for name in stored:
        if found := next((method for end, method in LOOKS.items() if name.endswith(end)), None):
            return found
    if any(tensor.dtype in FP8 for tensor in stored.values()):
        return "fp8"
    return None


def _title(
    method: str | None, settings: Mapping[str, object], block: tuple[int, int] | None, formats: tuple[str, ...]
) -> str:
    if method is None:
        return "none"
    if method == "bitsandbytes":
        kind = f"4-bit, {settings.get('bnb_4bit_quant_type', 'fp4')}" if settings.get("load_in_4bit") else "8-bit"
        return f"bitsandbytes ({kind})" if settings else method
    if method == "fp8" and block:
        return f"fp8 (blocks of {block[0]} x {block[1]})"
    if method in ("gptq", "awq") and "bits" in settings:
        return f"{method} ({settings['bits']}-bit)"
    return f"{method} ({', '.join(formats)})" if formats else method
