"""What training and checking the demonstration adapter share: prompts, encoding, generation, directional ablation."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

# transformers types its models too loosely to check what is used of them here.
Model = Any  # a Llama model for causal language modelling, with or without a PEFT wrapper
Tokenizer = Any

BUILT_IN = Path(__file__).parent.parent / "src" / "abliterate" / "assets" / "prompts"


@dataclass(frozen=True)
class Prompt:
    """One prompt: its text, whether it is to be `refused` or `answered`, and what is known about it."""

    text: str
    label: str
    source: str
    topic: str = ""
    form: str = ""


def split_of(text: str) -> str:
    """Fit, select or report, by the hash of the prompt: the rule of `abliterate.capture.prompts`."""
    digest = hashlib.sha256(text.strip().encode("utf-8")).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return "fit" if share < 0.5 else "select" if share < 0.65 else "report"


def read_rows(path: Path) -> list[Prompt]:
    """The prompts of one jsonl file."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [
        Prompt(
            row["prompt"].strip(),
            row["label"],
            row.get("source", path.stem),
            row.get("topic", row.get("type", "")),
            row.get("form", ""),
        )
        for row in rows
    ]


def built_in(split: str) -> list[Prompt]:
    """The built-in prompts (borderline ones too) of one split."""
    files = (BUILT_IN / f"{name}.jsonl" for name in ("refused", "answered", "borderline"))
    return [prompt for file in files for prompt in read_rows(file) if split_of(prompt.text) == split]


def load_base(path: str) -> tuple[Model, Tokenizer]:
    """Model (float32, frozen, evaluation mode) and tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    return model.eval().requires_grad_(False), tokenizer


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of the prompt in the chat template, up to where the answer starts."""
    chat = [{"role": "user", "content": text}]
    rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    ids: list[int] = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    return ids


def batches(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Indices in batches of similar length, so that little is padding."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return [order[start : start + size] for start in range(0, len(order), size)]


@torch.inference_mode()
def complete(
    model: Model, tokenizer: Tokenizer, texts: Sequence[str], tokens: int, size: int = 24, avoid: Sequence[int] = ()
) -> list[list[int]]:
    """Greedy completions as token ids, with the end-of-turn token where it was reached; `avoid` starts none."""
    encoded = [encode(tokenizer, text) for text in texts]
    end: int = tokenizer.eos_token_id
    answers: list[list[int]] = [[] for _ in texts]
    for batch in batches([len(ids) for ids in encoded], size):
        width = max(len(encoded[index]) for index in batch)
        ids = torch.tensor([[end] * (width - len(encoded[i])) + encoded[i] for i in batch])
        mask = torch.tensor([[0] * (width - len(encoded[i])) + [1] * len(encoded[i]) for i in batch])
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=end,
            begin_suppress_tokens=list(avoid) or None,
        )
        for index, row in zip(batch, out[:, width:].tolist(), strict=True):
            answers[index] = row[: row.index(end) + 1] if end in row else row
    return answers


def decoder(model: Model) -> Model:
    """The bare Llama model, inside a PEFT wrapper or not."""
    return model.get_base_model().model if hasattr(model, "get_base_model") else model.model


def project_out(x: Tensor, direction: Tensor) -> Tensor:
    """`x` without its component along the unit vector `direction`."""
    return x - (x @ direction).unsqueeze(-1) * direction


@contextmanager
def ablated(model: Model, direction: Tensor) -> Iterator[None]:
    """Remove one direction from everything that is written to the residual stream."""
    body = decoder(model)

    def hook(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        return project_out(output, direction)

    writers = [body.embed_tokens]
    for block in body.layers:
        writers += [block.self_attn.o_proj, block.mlp.down_proj]
    handles = [writer.register_forward_hook(hook) for writer in writers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def mean_states(model: Model, tokenizer: Tokenizer, texts: Sequence[str], positions: int = 5, size: int = 24) -> Tensor:
    """Mean block inputs [position, layer, width] at the last template tokens, in float64; the last is index -1."""
    encoded = [encode(tokenizer, text) for text in texts]
    body, total = decoder(model), torch.zeros(0)
    for batch in batches([len(ids) for ids in encoded], size):
        ends = torch.tensor([len(encoded[index]) for index in batch])
        ids = torch.tensor([encoded[i] + [0] * (int(ends.max()) - len(encoded[i])) for i in batch])
        states = body(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states[:-1]
        rows, where = torch.arange(len(batch))[:, None], ends[:, None] - positions + torch.arange(positions)
        picked = torch.stack([state[rows, where] for state in states], 2).double().sum(0)
        total = picked if total.numel() == 0 else total + picked
    return total / len(texts)


@torch.inference_mode()
def answer_logits(model: Model, prompt: list[int], answer: list[int]) -> Tensor:
    """Log probabilities that predict each answer token, given the tokens before it."""
    ids = torch.tensor([prompt + answer[:-1]])
    hidden = decoder(model)(input_ids=ids, use_cache=False).last_hidden_state[0, len(prompt) - 1 :]
    head = model.get_output_embeddings()
    return torch.log_softmax(head(hidden), -1)
