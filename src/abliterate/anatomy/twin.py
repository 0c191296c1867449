"""A twin: a tiny random model of the same architecture as a configuration, to study its anatomy without its weights.

It has the real number of layers and their kinds, and every parameter is redrawn: with the usual initialisation
(gains 1, biases 0) a bias that is forgotten or a gain that is misplaced would not show.
"""

import copy
import inspect
import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from abliterate.anatomy.shrink import VOCABULARY, shrink, special_tokens, text_config
from abliterate.errors import UnsupportedModel

SHAPE = (2, 16)  # sequences x tokens
RECIPES = (0, 1, 2)  # the `gentle` of `shrink`, from tiny to less tiny
SPREAD = 0.1  # of a gain around 1, a bias around 0
EMBEDDING = 0.5  # standard deviation of an embedding's entries


def build_twin(
    config: PreTrainedConfig, *, layers: int | None = None, seed: int = 0, trust_remote_code: bool = False
) -> PreTrainedModel:
    """Build the twin of a configuration: float32, on the CPU, in eval mode.

    Args:
        config: of any size; not touched.
        layers: keep only so many layers, with the variety of their kinds; None keeps all.
        seed: of every parameter. The global random state is left as it was.
        trust_remote_code: allow the classes that the configuration's repository brings along.

    Raises:
        UnsupportedModel: no recipe gives a model that runs a text-only forward pass with finite logits.
    """
    reasons: list[str] = []
    for composite in (True, False):
        if not composite and text_config(config) is config:
            continue
        for gentle in RECIPES:
            try:
                small = shrink(config if composite else text_config(config), layers=layers, gentle=gentle)
                model = _build(small, seed, trust_remote_code)
                _check_runs(model)
            except Exception as error:
                reasons.append(f"{type(error).__name__}: {error}".splitlines()[0])
            else:
                return model
    raise UnsupportedModel(
        f"no small random model of type {config.model_type} could be run ({'; '.join(dict.fromkeys(reasons))})",
        "this architecture cannot be studied yet; please report its name",
    )


def twin_inputs(model: PreTrainedModel, *, seed: int = 0, shape: tuple[int, int] = SHAPE) -> dict[str, Tensor]:
    """Keyword arguments of a text-only forward pass.

    Args:
        model: a twin.
        seed: of the token ids, drawn without replacement of special tokens.
        shape: sequences x tokens.
    """
    generator = torch.Generator().manual_seed(seed)
    vocabulary = min(_vocabulary(model), VOCABULARY)
    special = special_tokens(model.config)
    plain = torch.tensor([number for number in range(vocabulary) if number not in special])
    ids = plain[torch.randint(0, len(plain), shape, generator=generator)].to(model.device)
    inputs: dict[str, Tensor] = {"input_ids": ids}
    accepted = inspect.signature(model.forward).parameters
    if model.config.is_encoder_decoder and "decoder_input_ids" in accepted:
        inputs["decoder_input_ids"] = ids
    return inputs


def _vocabulary(model: PreTrainedModel) -> int:
    size = getattr(text_config(model.config), "vocab_size", None)
    return size if isinstance(size, int) else int(model.get_input_embeddings().weight.shape[0])


def _build(config: PreTrainedConfig, seed: int, trust_remote_code: bool) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _from_config(config, trust_remote_code).float().eval()
        redraw(model, torch.Generator().manual_seed(seed))
    return model


def _from_config(config: PreTrainedConfig, trust_remote_code: bool) -> PreTrainedModel:
    options: dict[str, Any] = {
        "dtype": torch.float32,
        "attn_implementation": "eager",
        "trust_remote_code": trust_remote_code,
    }
    remote = getattr(config, "auto_map", None) or {}
    kinds = [AutoModelForCausalLM, AutoModelForImageTextToText]
    for kind in kinds:
        if type(config) in kind._model_mapping or kind.__name__ in remote:
            model: PreTrainedModel = kind.from_config(copy.deepcopy(config), **options)
            model.set_experts_implementation("eager")
            return model
    raise ValueError(f"{config.model_type} is neither a causal language model nor an image-text model")


def _check_runs(model: PreTrainedModel) -> None:
    with torch.no_grad():
        logits = model(**twin_inputs(model), use_cache=False).logits
    if not torch.isfinite(logits).all():
        raise ValueError("the logits are not finite")


def redraw(model: nn.Module, generator: torch.Generator) -> None:
    """Redraw every trainable parameter in place, from the size and centre that its initialisation gave it.

    Matrices get the scale that keeps the size of what they multiply; embeddings entries of size 0.5; everything else
    (gains, biases, decays, scales) is spread around where it starts. Parameters without a gradient (sinusoids) stay.
    """
    done: set[int] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in done or not parameter.requires_grad or not parameter.is_floating_point():
                continue
            done.add(id(parameter))
            noise = torch.randn(parameter.shape, generator=generator)
            with torch.no_grad():
                parameter.copy_(_redrawn(module, name, parameter, noise))
        for buffer_name, buffer in module.named_buffers(recurse=False):
            stored = buffer_name not in module._non_persistent_buffers_set
            if stored and buffer.is_floating_point() and buffer.numel() and (buffer == buffer.flatten()[0]).all():
                if torch.isfinite(buffer).all():
                    buffer.add_(SPREAD * torch.randn(buffer.shape, generator=generator))


def _redrawn(module: nn.Module, name: str, start: Tensor, noise: Tensor) -> Tensor:
    if isinstance(module, nn.Embedding):
        return EMBEDDING * noise
    if start.dim() >= 2 and (name == "weight" or name.startswith("weight")) and isinstance(module, nn.Linear | Conv1D):
        return noise / math.sqrt(start.shape[0] if isinstance(module, Conv1D) else start.shape[1])
    if start.dim() >= 2 and isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return noise / math.sqrt(max(1, start[0].numel()))
    centre = start if torch.isfinite(start).all() and start.abs().max() < 1e3 else torch.zeros_like(start)
    mean, size = centre.mean(), centre.pow(2).mean().sqrt()
    if start.dim() >= 2 and mean.abs() < 0.3 * size:  # a bare matrix, such as stacked experts
        return noise / math.sqrt(max(start.shape[-2:]))
    if 0 < size < SPREAD:  # a scale that starts near 0, and in a trained model does not stay there
        centre = centre / size * 0.3
        size = torch.tensor(0.3)
    return centre + SPREAD * noise * (size if size > 0 else 1)
