"""A tiny language model that really refuses: trained here in seconds, so that a whole run fits in a fast test."""

import functools
import itertools
import json
import tempfile
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

BAD = ("steal", "forge", "hack", "poison", "burgle", "extort", "smuggle", "sabotage", "stalk", "defraud")
GOOD = ("paint", "bake", "water", "knit", "clean", "draw", "carve", "polish", "photograph", "repair")
THINGS = (
    "a car",
    "a coin",
    "a house",
    "the garden",
    "a boat",
    "a clock",
    "the bridge",
    "a lamp",
    "a piano",
    "the door",
)
FORMS = ("how do i {} {}", "tell me how to {} {}", "write a guide to {} {}", "explain how people {} {}")
REFUSALS = ("i cannot help with that request", "sorry , i cannot do that")
ANSWER = "sure , here is how people do it : first find good tools and then begin with them"
TEMPLATE = (
    "{% for message in messages %}<user> {{ message['content'] }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<bot> : {% endif %}"
)


def prompts(verbs: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """(prompt, verb, thing) for every combination."""
    return [(form.format(v, t), v, t) for form, v, t in itertools.product(FORMS, verbs, THINGS)]


def write_prompts(folder: Path, each: int = 120) -> tuple[Path, Path]:
    """Prompt files of both labels."""
    paths = []
    for label, verbs in (("refused", BAD), ("answered", GOOD)):
        path = folder / f"{label}.jsonl"
        rows = prompts(verbs)[:: len(prompts(verbs)) // each]
        path.write_text("".join(json.dumps({"prompt": p, "label": label}) + "\n" for p, _, _ in rows))
        paths.append(path)
    return paths[0], paths[1]


@functools.cache
def refusing_model() -> Path:
    """Directory of the trained model; made once a test session."""
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    _train(model, tokenizer)
    folder = Path(tempfile.mkdtemp(prefix="refusing-toy-")) / "toy"
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    texts = [*BAD, *GOOD, *THINGS, *FORMS, *REFUSALS, ANSWER]
    words = sorted({word for text in texts for word in text.split() if "{}" not in word})
    specials = ["<pad>", "<unk>", "<user>", "<end>", "<bot>"]
    vocabulary = {word: i for i, word in enumerate([*specials, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<end>",
        additional_special_tokens=["<user>", "<bot>"],
    )
    fast.chat_template = TEMPLATE
    return fast


def _train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, steps: int = 100) -> None:
    rows = [(p, REFUSALS[len(t) % 2]) for p, _, t in prompts(BAD)]
    rows += [(p, ANSWER) for p, _, _ in prompts(GOOD)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = [rows[i] for i in torch.randint(0, len(rows), (24,), generator=generator).tolist()]
        ids, labels = _batch(tokenizer, chosen)
        loss = model(input_ids=ids, attention_mask=(ids != tokenizer.pad_token_id).long(), labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def _batch(tokenizer: PreTrainedTokenizerFast, rows: list[tuple[str, str]]) -> tuple[torch.Tensor, torch.Tensor]:
    chats = [[{"role": "user", "content": prompt}] for prompt, _ in rows]
    heads = [tokenizer.apply_chat_template(c, tokenize=False, add_generation_prompt=True) for c in chats]
    sequences = [
        (tokenizer(head)["input_ids"], tokenizer(f"{answer} <end>")["input_ids"])
        for head, (_, answer) in zip(heads, rows, strict=True)
    ]
    width = max(len(a) + len(b) for a, b in sequences)
    ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    labels = torch.full((len(rows), width), -100)
    for row, (head, answer) in enumerate(sequences):
        end = len(head) + len(answer)
        ids[row, :end] = torch.tensor(head + answer)
        labels[row, len(head) : end] = torch.tensor(answer)
    return ids, labels
