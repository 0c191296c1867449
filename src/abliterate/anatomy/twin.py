"""A twin: a tiny random model of the same architecture as a configuration, to study its anatomy without its weights.

It has the real number of layers and their kinds, and every parameter is redrawn: with the usual initialisation
(gains 1, biases 0) a bias that is forgotten or a gain that is misplaced would not show.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from abliterate.anatomy.classes import new_model
from abliterate.anatomy.shrink import shrink, special_tokens, text_config
from abliterate.anatomy.sizes import RECIPES, VOCABULARY
from abliterate.errors import UnsupportedModel

SHAPE = (2, 16)  # sequences x tokens
SPREAD = 0.1  # of a gain around 1, a bias around 0
SCALE = 0.3  # of a per-channel scale that starts near 0
EMBEDDING = 0.5  # standard deviation of an embedding's entries
ABSURD = 1e3  # a value that no initialisation gives: the memory was never written
LINEAR = (nn.Linear, Conv1D, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def build_twin(
    config: PreTrainedConfig, *, layers: int | None = None, seed: int = 0, trust_remote_code: bool = False
) -> PreTrainedModel:
    """Build the twin of a configuration: float32, on the CPU, in eval mode.

    It is the model that the configuration describes where that runs on text alone, otherwise its text decoder.

    Args:
        config: of any size; not touched.
        layers: keep only so many layers, with the variety of their kinds; None keeps all.
        seed: of every parameter. The global random state is left as it was.
        trust_remote_code: allow the classes that the configuration's repository brings along.

    Raises:
        UnsupportedModel: no recipe gives a model that runs a text-only forward pass with finite logits.
    """
    reasons: dict[str, None] = {}  # in order, without repetition
    for attempt in _attempts(config):
        for recipe in RECIPES:
            try:
                small = shrink(config, layers=layers, recipe=recipe)
                type(small).from_dict(small.to_dict())  # it could be saved and loaded
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(seed)
                    model = attempt(small, trust_remote_code, seed)
                    _check_runs(model)
            except Exception as error:  # whatever foreign code raises is a reason to try the next
                reasons[f"{type(error).__name__}: {error}".splitlines()[0]] = None
            else:
                return model
    raise UnsupportedModel(
        f"no small random model of type {config.model_type} could be run ({'; '.join(reasons)})",
        "this architecture cannot be studied yet; please report its name",
    )


def twin_inputs(model: PreTrainedModel, *, seed: int = 0, shape: tuple[int, int] = SHAPE) -> dict[str, Any]:
    """Keyword arguments of a text-only forward pass; models that cannot do without get random encoder outputs, boxes.

    Args:
        model: a twin.
        seed: of the token ids, which are none of the special tokens, and of the rest.
        shape: sequences x tokens.
    """
    generator = torch.Generator().manual_seed(seed)
    codebooks = max((_codebooks(part) for part in model.modules()), default=1)  # rows of ids for one sequence
    size = getattr(text_config(model.config), "vocab_size", None) or VOCABULARY
    special = special_tokens(model.config)
    plain = torch.tensor([number for number in range(min(size, VOCABULARY)) if number not in special])
    ids = plain[torch.randint(0, len(plain), (shape[0] * codebooks, shape[1]), generator=generator)]
    inputs: dict[str, Tensor] = {"input_ids": ids}
    accepted = inspect.signature(model.forward).parameters
    if "decoder_input_ids" in accepted:
        inputs["decoder_input_ids"] = ids
    if "bbox" in accepted:
        inputs["bbox"] = torch.tensor([0.0, 0.0, 0.5, 0.5]).expand(*shape, 4)
    if "image_encoder_embeddings" in accepted:
        width = getattr(model.config.vision_config, "hidden_size", None) or model.config.vision_config.embed_dim
        inputs["image_encoder_embeddings"] = torch.randn(shape[0], 1, 4, width, generator=generator)
        inputs["image_attention_mask"] = torch.ones(*shape, 1)
    if "shared_kv_states" in accepted and hasattr(model, "pre_projection"):
        return _borrowed_states(model, shape, generator)
    return {name: value.to(model.device) for name, value in inputs.items()}


def _borrowed_states(model: PreTrainedModel, shape: tuple[int, int], generator: torch.Generator) -> dict[str, Any]:
    """What a drafting model takes from the model that it drafts for: embeddings, and keys and values by layer type."""
    drafter: Any = model
    states = {}
    for kind, layer in zip(text_config(model.config).layer_types, drafter.base_model.layers, strict=True):
        attention = layer.self_attn
        heads = attention.config.num_attention_heads // attention.num_key_value_groups
        pair = [torch.randn(shape[0], heads, shape[1], attention.head_dim, generator=generator) for _ in range(2)]
        states[kind] = (pair[0].to(model.device), pair[1].to(model.device))
    embeddings = torch.randn(*shape, drafter.pre_projection.in_features, generator=generator)
    places = torch.arange(shape[1]).expand(shape).to(model.device)
    return {"inputs_embeds": embeddings.to(model.device), "position_ids": places, "shared_kv_states": states}


def _codebooks(module: nn.Module) -> int:
    """How many embeddings a list holds, of which each reads its own row of ids; otherwise 1."""
    is_list = isinstance(module, nn.ModuleList) and all(isinstance(part, nn.Embedding) for part in module)
    return max(1, len(list(module.children()))) if is_list else 1


Attempt = Callable[[PreTrainedConfig, bool, int], PreTrainedModel]


def _attempts(config: PreTrainedConfig) -> tuple[Attempt, ...]:
    composite = text_config(config) is not config
    return (_whole, _decoder_of, _decoder_within) if composite else (_whole,)


def _whole(config: PreTrainedConfig, trust_remote_code: bool, seed: int) -> PreTrainedModel:
    model = new_model(config, trust_remote_code=trust_remote_code)
    model.float().eval()
    redraw(model, torch.Generator().manual_seed(seed))
    return model


def _decoder_of(config: PreTrainedConfig, trust_remote_code: bool, seed: int) -> PreTrainedModel:
    """The causal language model that the text part of the configuration describes."""
    return _whole(text_config(config), trust_remote_code, seed)


def _decoder_within(config: PreTrainedConfig, trust_remote_code: bool, seed: int) -> PreTrainedModel:
    """A language model with a head that is a part of the whole, where no auto class knows it by itself."""
    model = _whole(config, trust_remote_code, seed)
    parts = [part for part in model.modules() if isinstance(part, PreTrainedModel) and part is not model]
    heads = [part for part in parts if part.get_output_embeddings() is not None]
    if not heads:
        raise ValueError(f"{type(model).__name__} contains no language model")
    return heads[0]


def _check_runs(model: PreTrainedModel) -> None:
    with torch.no_grad():
        logits = model(**twin_inputs(model), use_cache=False).logits
    if not torch.isfinite(logits).all():
        raise ValueError("the logits are not finite")


def redraw(model: nn.Module, generator: torch.Generator) -> None:
    """Redraw every parameter and stored constant buffer in place, from the size and centre that it was built with.

    Matrices get the scale that keeps the size of what they multiply, embeddings entries of size 0.5; everything else
    (gains, biases, decays, scales) is spread around where it starts. Tables of sinusoids stay.
    """
    done: set[int] = set()
    for module in model.modules():
        buffers = {
            name: buffer
            for name, buffer in module.named_buffers(recurse=False)
            if name not in module._non_persistent_buffers_set and _is_constant(buffer)
        }
        for name, tensor in (*module.named_parameters(recurse=False), *buffers.items()):
            if id(tensor) in done or not tensor.is_floating_point() or _is_sinusoids(tensor):
                continue
            done.add(id(tensor))  # tied parameters are one object
            with torch.no_grad():
                tensor.copy_(_redrawn(module, name, tensor, torch.randn(tensor.shape, generator=generator)))


def _is_constant(tensor: Tensor) -> bool:
    return tensor.numel() > 0 and bool((tensor == tensor.flatten()[0]).all() and torch.isfinite(tensor).all())


def _is_sinusoids(tensor: Tensor) -> bool:
    """Whether it is a frozen table of sines and cosines: the squares of each row sum to half of its length."""
    if tensor.requires_grad or tensor.dim() != 2:
        return False
    return bool(((tensor.pow(2).sum(dim=1) - tensor.shape[1] / 2).abs() < 1e-3).float().mean() > 0.9)  # but padding


def _redrawn(module: nn.Module, name: str, start: Tensor, noise: Tensor) -> Tensor:
    """New values for one parameter, from standard normal noise of its shape."""
    if isinstance(module, nn.Embedding):
        return EMBEDDING * noise
    if name == "weight" and start.dim() >= 2 and isinstance(module, LINEAR):
        inputs = start.shape[0] if isinstance(module, Conv1D) else start[0].numel()
        return noise / math.sqrt(max(1, inputs))
    sane = torch.isfinite(start).all() and start.abs().max() < ABSURD
    centre = start if sane else torch.zeros_like(start)
    mean, size = centre.mean(), float(centre.pow(2).mean().sqrt())
    if start.dim() >= 2 and size > 0 and mean.abs() < 0.3 * size:  # a bare matrix, such as stacked experts
        return noise / math.sqrt(max(start.shape[-2:]))
    if 0 < size < SPREAD:  # a scale that starts near 0, and in a trained model does not stay there
        centre, size = centre / size * SCALE, SCALE
    return centre + SPREAD * noise * (size or 1.0)
