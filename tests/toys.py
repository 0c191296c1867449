"""Tiny random models of many architectures, built from their configurations and saved like a real checkpoint.

Every parameter is redrawn, norm gains and biases too: with the usual initialisation (gains 1, biases 0) a bias that
is forgotten or a gain that is misplaced would not show.
"""

import zlib
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from abliterate.anatomy.load import Subject
from abliterate.directions.direction import Direction, Provenance

WIDTH, LAYERS, HEADS, INNER = 32, 3, 4, 48

SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
SUFFIX = "<|end|>\n<|assistant|>\n"  # what TEMPLATE puts after the instruction
VOCABULARY = 256 + len(SPECIAL)  # bytes
PAD, END = 256, 257

PLAIN = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "intermediate_size": INNER,
    "max_position_embeddings": 512,
    "head_dim": WIDTH // HEADS,
    "pad_token_id": PAD,
    "bos_token_id": None,
    "eos_token_id": END,
}
NO_HEAD_DIM = {key: value for key, value in PLAIN.items() if key != "head_dim"}
NO_GROUPS = {key: value for key, value in NO_HEAD_DIM.items() if key != "num_key_value_heads"}
STOPS = {"pad_token_id": PAD, "bos_token_id": None, "eos_token_id": END}

# kind: (name of the classes in transformers, their configuration)
DENSE: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", PLAIN | {"tie_word_embeddings": False}),
    "llama-tied": ("Llama", PLAIN | {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
    "mistral": ("Mistral", PLAIN | {"head_dim": 12}),  # heads x head_dim is not the width
    "qwen2": ("Qwen2", NO_HEAD_DIM | {"tie_word_embeddings": True}),
    "gemma": ("Gemma", PLAIN),
    "granite": (
        "Granite",
        NO_HEAD_DIM
        | {
            "residual_multiplier": 0.22,
            "embedding_multiplier": 12.0,
            "logits_scaling": 8.0,
            "attention_multiplier": 0.3,
        },
    ),
    "cohere": ("Cohere", NO_HEAD_DIM | {"logit_scale": 0.0625, "tie_word_embeddings": True}),
    "phi": ("Phi", NO_HEAD_DIM),
    "gpt_neox": ("GPTNeoX", NO_GROUPS | {"use_parallel_residual": True}),
    "starcoder2": ("Starcoder2", NO_HEAD_DIM | {"use_bias": True}),
    "gpt2": (
        "GPT2",
        STOPS
        | {
            "vocab_size": VOCABULARY,
            "n_embd": WIDTH,
            "n_layer": LAYERS,
            "n_head": HEADS,
            "n_inner": INNER,
            "n_positions": 512,
        },
    ),
}
BEYOND: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma2": ("Gemma2", PLAIN),  # a norm between each writer and the stream
    "mixtral": ("Mixtral", PLAIN | {"num_local_experts": 4, "num_experts_per_tok": 2}),  # experts
    "mamba": (
        "Mamba",
        STOPS | {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": 2, "state_size": 4},
    ),
    "bert": ("Bert", NO_GROUPS | {"is_decoder": True}),  # the stream itself is normalised
}
HEAD_CLASS = {"gpt2": "GPT2LMHeadModel", "bert": "BertLMHeadModel"}


def toy(kind: str, directory: Path, dtype: torch.dtype = torch.float32, **changes: object) -> Path:
    """Save a tiny random model of a kind in `DENSE` or `BEYOND`, with a byte tokenizer, and return `directory`.

    Args:
        kind: which architecture.
        directory: where; made if it is not there.
        dtype: of the stored weights.
        changes: to its configuration; `padding_side` is for the tokenizer.
    """
    tokenizer = byte_tokenizer(padding_side=str(changes.pop("padding_side", "right")))
    model = build(kind, **changes).to(dtype)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def build(kind: str, **changes: object) -> PreTrainedModel:
    """The model alone, in float32, the same at every call."""
    family, config = (DENSE | BEYOND)[kind]
    configuration = getattr(transformers, f"{family}Config")(**(config | changes))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, HEAD_CLASS.get(kind, f"{family}ForCausalLM"))(configuration)
    randomise(model, seed=zlib.crc32(kind.encode()))
    return model.eval()


def randomise(model: PreTrainedModel, seed: int) -> None:
    """Redraw every parameter: matrices that keep the size of what they multiply, gains and biases around theirs."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                parameter.add_(0.3 * noise)
            elif "embed" in name or "wte" in name or "wpe" in name:
                parameter.copy_(0.5 * noise)
            else:
                parameter.copy_(noise / WIDTH**0.5)


def byte_tokenizer(padding_side: str = "right") -> PreTrainedTokenizerFast:
    """One token a byte, and one for each marker of `TEMPLATE`."""
    alphabet = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=SPECIAL[0], eos_token=SPECIAL[1], padding_side=padding_side
    )
    fast.chat_template = TEMPLATE
    return fast


def provenance(subject: Subject) -> Provenance:
    """As if a direction had been found on this subject."""
    anatomy = subject.anatomy
    return Provenance(
        subject.source,
        subject.revision,
        subject.config_hash,
        anatomy.width,
        anatomy.layers,
        "t",
        "p",
        "difference_of_means",
    )


def direction(subject: Subject, *, rank: int = 1, layer: int = 1, seed: int = 0) -> Direction:
    """A random direction (rank 1, raw norm 3) or subspace that fits a subject."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(subject.anatomy.width, rank, generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(vectors).Q.T.contiguous()
    return Direction(basis, 3.0, -1, layer, provenance(subject))


def sentences(count: int, *, seed: int = 0, longest: int = 24) -> list[list[int]]:
    """Random token ids of different lengths, none of them special."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(6, longest + 1, (count,), generator=generator).tolist()
    return [torch.randint(0, 256, (length,), generator=generator).tolist() for length in lengths]


def logits(model: PreTrainedModel, sequence: list[int]) -> Tensor:
    """Logits [tokens, vocabulary] of one sequence, unpadded, in float64."""
    with torch.inference_mode():
        return model(input_ids=torch.tensor([sequence]), use_cache=False).logits[0].double()


def work_in_place(model: PreTrainedModel) -> PreTrainedModel:
    """Make every block of a toy overwrite the stream it was given, as some architectures do."""
    blocks = model.base_model.layers

    def overwriting(forward: Any) -> Any:
        return lambda hidden_states, *args, **kwargs: hidden_states.copy_(forward(hidden_states, *args, **kwargs))

    for block in blocks:
        block.forward = overwriting(block.forward)
    return model


def hooks(model: PreTrainedModel) -> int:
    """How many hooks a model carries; transformers leaves some of its own behind."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def apart(x: Tensor, y: Tensor) -> float:
    """|x - y| / |y|."""
    return float((x - y).norm() / y.norm())
