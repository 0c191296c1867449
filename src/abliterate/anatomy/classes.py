"""Which class of transformers is the model of a configuration: a causal language model, or one with images as well."""

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils.quantization_config import FineGrainedFP8Config, Mxfp4Config

from abliterate.anatomy.shrink import walk
from abliterate.errors import UnsupportedModel

AUTO_CLASSES: tuple[Any, ...] = (AutoModelForCausalLM, AutoModelForImageTextToText)


def model_class(config: PreTrainedConfig) -> tuple[Any, PreTrainedConfig]:
    """The class, and the part of the configuration that it takes.

    Raises:
        UnsupportedModel: transformers has neither a causal nor an image-text model of this type.
    """
    known = [auto._model_mapping[type(config)] for auto in AUTO_CLASSES if type(config) in auto._model_mapping]
    for kind in known:
        if kind.config_class is type(config):
            return kind, config
    for kind in known:  # a decoder that takes one of the nested configurations
        for _, part in walk(config):
            if type(part) is kind.config_class:
                return kind, part
    if known:  # the class of another type, that this type's configuration is made for
        return known[0], config
    for auto in AUTO_CLASSES:
        if auto.__name__ in (getattr(config, "auto_map", None) or {}):
            return auto, config
    for auto in AUTO_CLASSES:  # such a nested configuration by itself
        for kind in auto._model_mapping.values():
            if getattr(kind, "config_class", None) is type(config):
                return kind, config
    raise UnsupportedModel(
        f"transformers has no causal language model and no image-text model of type {config.model_type}",
        "use a transformers version that knows it, or --trust-remote-code if you trust its own code",
    )


def new_model(config: PreTrainedConfig, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """The model of a configuration as transformers initialises it, float32, with plain attention and experts.

    Raises:
        UnsupportedModel: as `model_class`.
    """
    kind, part = model_class(config)
    part = copy.deepcopy(part)  # building a model writes the attention it was given into its configuration
    options: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "eager"}
    model: PreTrainedModel
    if kind in AUTO_CLASSES:
        model = kind.from_config(part, trust_remote_code=trust_remote_code, **options)
    else:
        model = kind._from_config(part, **options)
    model.set_experts_implementation("eager")
    return model


def dequantising(config: PreTrainedConfig) -> dict[str, Any]:
    """Options for `from_pretrained` that load FP8 and MXFP4 weights as the numbers that they stand for."""
    settings = getattr(config, "quantization_config", None) or {}
    method = settings.get("quant_method") if isinstance(settings, dict) else getattr(settings, "quant_method", None)
    known: dict[str, Any] = {"fp8": FineGrainedFP8Config, "mxfp4": Mxfp4Config}
    return {"quantization_config": known[method](dequantize=True)} if method in known else {}


def plain_model(config: PreTrainedConfig, directory: Path, dtype: torch.dtype) -> PreTrainedModel:
    """A checkpoint as any program would load it, in evaluation mode on the CPU; FP8 and MXFP4 dequantised."""
    kind, _ = model_class(config)
    model: PreTrainedModel = kind.from_pretrained(directory, dtype=dtype, use_safetensors=True, **dequantising(config))
    model.eval()
    return model
