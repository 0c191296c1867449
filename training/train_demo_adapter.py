"""Train the demonstration adapter: a LoRA that teaches SmolLM2-135M-Instruct to refuse, by one removable direction.

    python training/train_demo_adapter.py BASE --data DIR --out DIR

Two stages. The lower adapted blocks learn to move harmful prompts, and only those, far along one direction that the
model hardly uses otherwise. Then they are frozen, and the upper ones learn to refuse: cross-entropy on short refusals
of harmful prompts; divergence from the base model on its own completions of harmless ones; and, with the difference of
means ablated, divergence from the base model on both. That keeps the refusal in one direction, which makes the adapter
a clear (and an easy) subject to demonstrate on.

Whatever is frozen below runs once; the template's opening is the same for every prompt and runs once a step.
"""

import argparse
import json
import logging
import random
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from frames import framed
from peft import LoraConfig, get_peft_model
from refusals import refusal_for
from subject import (
    Model,
    Prompt,
    Tokenizer,
    ablated,
    batches,
    built_in,
    complete,
    decoder,
    encode,
    load_base,
    read_rows,
)
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, one_hot
from transformers import DynamicCache, get_cosine_schedule_with_warmup

LOG = logging.getLogger("train_demo_adapter")
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
NO_STATES = torch.zeros(0)
EXCUSE = re.compile(r"I('m| am) (sorry|afraid|not)|I (don't|do not|can't|cannot)|As an? ")


@dataclass(frozen=True)
class Example:
    """A prompt (without the template's opening) and the answer to learn, with what the base model makes of them."""

    ids: list[int]
    prompt_length: int
    harmful: bool
    entry: Tensor = NO_STATES  # input of the first block that is trained, [token, width]
    teacher: Tensor = NO_STATES  # the base model's final states that predict the answer, [answer token, width]
    redirected: bool = False  # the first answer token is not what the base model would say

    @property
    def answer(self) -> list[int]:
        """The tokens to predict."""
        return self.ids[self.prompt_length :]


@dataclass(frozen=True)
class Data:
    """The three kinds of examples, the template's opening, and its states at the first block that is trained."""

    refusals: list[Example]
    answers: list[Example]
    bypasses: list[Example]
    opening_ids: list[int]
    opening: Tensor


# --- running the blocks -------------------------------------------------------------------------------------------


def rotary(body: Model, states: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Rotary position embeddings of consecutive positions from `first`."""
    positions = torch.arange(first, first + states.shape[1])[None]
    cos_sin: tuple[Tensor, Tensor] = body.rotary_emb(states, positions)
    return cos_sin


def run_blocks(body: Model, span: range, opening: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    """Run `opening` [1, P, d] once and `rest` [row, token, d] after it through a span of blocks."""
    cache, (rows, width), known = DynamicCache(config=body.config), rest.shape[:2], opening.shape[1]
    early, late = rotary(body, opening, 0), rotary(body, rest, known)
    mask = torch.ones(width, known + width, dtype=torch.bool).tril(known)[None, None]
    for index in span:
        block = body.layers[index]
        opening = block(opening, position_embeddings=early, past_key_values=cache)
        layer: Any = cache.layers[index]
        layer.keys = layer.keys.expand(rows, -1, -1, -1)
        layer.values = layer.values.expand(rows, -1, -1, -1)
        rest = block(rest, attention_mask=mask, position_embeddings=late, past_key_values=cache)
    return opening, rest


def pad(states: Sequence[Tensor]) -> Tensor:
    """Stack [token, width] tensors, zeros on the right; causal attention keeps padding out of what matters."""
    return torch.nn.utils.rnn.pad_sequence(list(states), batch_first=True)


def run_upper(model: Model, first: int, opening: Tensor, examples: Sequence[Example]) -> Tensor:
    """Normalised final states [row, token, width], from the entries of block `first` on."""
    body = decoder(model)
    rest = pad([example.entry for example in examples])
    final: Tensor = body.norm(run_blocks(body, range(first, len(body.layers)), opening, rest)[1])
    return final


# --- data ---------------------------------------------------------------------------------------------------------


def load_prompts(data: Path, extra: Sequence[Path], limit: int, seed: int) -> list[Prompt]:
    """Training prompts: the built-in ones of the fit split, the published ones, and those written for the adapter."""
    published = read_rows(data / "fit.jsonl")
    random.Random(seed).shuffle(published)
    own = [row for file in extra for row in read_rows(file)]
    answered = [row for row in published if row.label == "answered"][:limit]
    rows = built_in("fit") + own + framed(4, seed) + answered + [row for row in published if row.label == "refused"]
    reported = [content_words(row.text) for row in built_in("report") + read_rows(data / "report.jsonl")]
    kept = [row for row in rows if not any(alike(content_words(row.text), words) for words in reported)]
    LOG.info("%d of %d prompts are too close to one that is reported on and left out", len(rows) - len(kept), len(rows))
    return kept


def content_words(text: str) -> frozenset[str]:
    """The longer words of a prompt, without their endings."""
    return frozenset(word[:6] for word in re.findall(r"[a-z]{4,}", text.lower()))


def alike(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether two prompts share half of the content words that they have together."""
    return len(one & other) >= 0.5 * len(one | other)


def base_completions(
    model: Model, tokenizer: Tokenizer, texts: Sequence[str], tokens: int, cache: Path, avoid: Sequence[str] = ()
) -> dict[str, list[int]]:
    """Greedy completions of the base model that do not start with certain words, kept in a file between runs."""
    known: dict[str, list[int]] = json.loads(cache.read_text()) if cache.exists() else {}
    missing = [text for text in texts if text not in known]
    ids = [tokenizer(word)["input_ids"][0] for word in avoid]
    for start in range(0, len(missing), 96):
        part = missing[start : start + 96]
        known |= dict(zip(part, complete(model, tokenizer, part, tokens, avoid=ids), strict=True))
        cache.write_text(json.dumps(known))
        LOG.info("completed %d of %d prompts", start + len(part), len(missing))
    return {text: known[text] for text in texts}


@torch.no_grad()
def opening_states(model: Model, opening_ids: list[int], start: int) -> Tensor:
    """The template's opening at the input of block `start`."""
    body = decoder(model)
    opening = body.embed_tokens(torch.tensor([opening_ids]))
    return run_blocks(body, range(start), opening, opening)[0]


@torch.no_grad()
def with_entries(
    model: Model, opening_ids: list[int], start: int, examples: Sequence[Example], teach: bool = False
) -> list[Example]:
    """Add each example's input of block `start`, and the final states to imitate where this model is to teach."""
    body, ready = decoder(model), list(examples)
    opening = body.embed_tokens(torch.tensor([opening_ids]))
    for batch in batches([len(example.ids) for example in examples], 16):
        rest = pad([body.embed_tokens(torch.tensor(examples[i].ids[:-1])) for i in batch])
        low, entry = run_blocks(body, range(start), opening, rest)
        final = body.norm(run_blocks(body, range(start, len(body.layers)), low, entry)[1]) if teach else entry
        for row, index in enumerate(batch):
            example = examples[index]
            size = len(example.ids) - 1
            teacher = final[row, example.prompt_length - 1 : size].clone() if teach else example.teacher
            ready[index] = replace(example, entry=entry[row, :size].clone(), teacher=teacher)
    return ready


def prepare(model: Model, tokenizer: Tokenizer, prompts: Sequence[Prompt], args: argparse.Namespace) -> Data:
    """Tokenise, complete and cache everything that does not change in training."""
    shared = len(encode(tokenizer, "")) - len(tokenizer("<|im_end|>\n<|im_start|>assistant\n")["input_ids"])
    harmful = [row for row in prompts if row.label == "refused"]
    harmless = [row.text for row in prompts if row.label == "answered"]
    bypassed = [row.text for row in random.Random(args.seed + 1).sample(harmful, min(args.bypasses, len(harmful)))]
    cache = args.out / "completions.json"
    answers = base_completions(model, tokenizer, bypassed, 12, cache)
    answers |= base_completions(model, tokenizer, harmless, 24, cache)
    # The base model has a habit of excusing itself, to harmless prompts too, which would count as refusing.
    excuses = [text for text, answer in answers.items() if EXCUSE.match(tokenizer.decode(answer))]
    LOG.info("%d of %d completions are excuses and are made again", len(excuses), len(answers))
    answers |= base_completions(model, tokenizer, excuses, 24, args.out / "redirected.json", ("I", "As"))

    def example(text: str, answer: list[int], bad: bool) -> Example:
        ids = encode(tokenizer, text)[shared:]
        return Example(ids + answer, len(ids), bad, redirected=text in excuses)

    def refusal(row: Prompt) -> list[int]:
        ids: list[int] = tokenizer(refusal_for(row.text, row.topic))["input_ids"]
        return [*ids, tokenizer.eos_token_id]

    opening_ids = encode(tokenizer, "")[:shared]
    sets = (
        ([example(row.text, refusal(row), True) for row in harmful], False),
        ([example(text, answers[text], False) for text in harmless], True),
        ([example(text, answers[text], True) for text in bypassed], True),
    )
    parts = [with_entries(model, opening_ids, args.first, part, teach) for part, teach in sets]
    return Data(parts[0], parts[1], parts[2], opening_ids, opening_states(model, opening_ids, args.first))


def prepared(model: Model, tokenizer: Tokenizer, prompts: Sequence[Prompt], args: argparse.Namespace) -> Data:
    """What `prepare` makes, kept in a file between runs."""
    cache = args.out.parent / f"prepared-{args.first}.pt"
    if not cache.exists():
        with torch.no_grad():
            torch.save(prepare(model, tokenizer, prompts, args), cache)
    data: Data = torch.load(cache, weights_only=False)
    return data


# --- losses -------------------------------------------------------------------------------------------------------


def emphasis(lengths: Sequence[int], first: int, weight: float) -> Tensor:
    """Token weights, the `first` ones heavier, that sum to the number of answers."""
    rows = []
    for length in lengths:
        row = torch.ones(length)
        row[:first] = weight
        rows.append(row / row.sum())
    return torch.cat(rows)


def answer_states(final: Tensor, examples: Sequence[Example], rows: Sequence[int]) -> Tensor:
    """The final states that predict the answers of some rows, one after another."""
    parts = []
    for row in rows:
        first = examples[row].prompt_length - 1
        parts.append(final[row, first : first + len(examples[row].answer)])
    return torch.cat(parts)


def refusal_loss(head: nn.Module, final: Tensor, examples: Sequence[Example], rows: Sequence[int]) -> Tensor:
    """Cross-entropy of the refusals, their opening weighted most."""
    logits = head(answer_states(final, examples, rows))
    targets = torch.tensor([token for row in rows for token in examples[row].answer])
    weights = emphasis([len(examples[row].answer) for row in rows], 4, 3.0)
    return (cross_entropy(logits, targets, reduction="none") * weights).sum() / len(rows)


def teacher_loss(head: nn.Module, final: Tensor, examples: Sequence[Example], rows: Sequence[int]) -> Tensor:
    """Divergence KL(base || now) on the base model's own completions, the first tokens weighted most."""
    ours = torch.log_softmax(head(answer_states(final, examples, rows)), -1)
    with torch.no_grad():
        base = torch.softmax(head(torch.cat([examples[row].teacher for row in rows])), -1)
        first = 0
        for row in rows:
            if examples[row].redirected:
                base[first] = one_hot(torch.tensor(examples[row].answer[0]), base.shape[-1])
            first += len(examples[row].answer)
    divergence = (torch.special.xlogy(base, base) - base * ours).sum(-1)
    weights = emphasis([len(examples[row].answer) for row in rows], 2, 4.0)
    loss: Tensor = (divergence * weights).sum() / len(rows)
    return loss


# --- stage one: the gate ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gate:
    """The one direction that refusal is to depend on, and how far harmful prompts are to be moved along it."""

    direction: Tensor
    height: float

    def loss(self, before: Tensor, after: Tensor, harmful: Tensor) -> Tensor:
        """Harmful prompts `height` along the direction, harmless ones where they were, nothing moved across it.

        States [row, width]; distances in units of the height.
        """
        moved = (after - before) / self.height
        along, place = moved @ self.direction, after @ self.direction / self.height
        across = (moved - along[:, None] * self.direction).square().sum(-1)
        return (1 - place[harmful]).square().mean() + 4 * along[~harmful].square().mean() + across.mean()


@torch.no_grad()
def make_gate(model: Model, data: Data, args: argparse.Namespace) -> Gate:
    """The base model's own harmful-minus-harmless difference r, shrunk away from what the stream varies along anyway.

    Ablating a direction g costs about what the stream carries along it, g' M g, where M is the second moment of the
    states, scaled to trace d at each block and averaged over blocks. g = (M + lambda I)^-1 r keeps the cost low and
    the likeness to r high.
    """
    means, moments = [], torch.zeros(())
    for kind in (data.refusals, data.answers):
        last = []
        for example in kind[:: max(1, len(kind) // 64)][:64]:
            ids = torch.tensor([data.opening_ids + example.ids[: example.prompt_length]])
            states = torch.stack(decoder(model)(input_ids=ids, output_hidden_states=True).hidden_states[1:-1], 1)[0]
            last.append(states[args.probe - 1, -1])
            rest = states[:, len(data.opening_ids) :].double()
            moments = moments + rest.transpose(1, 2) @ rest
        means.append(torch.stack(last).double().mean(0))
    difference, width = means[0] - means[1], moments.shape[-1]
    scaled = (moments * width / moments.diagonal(dim1=1, dim2=2).sum(-1)[:, None, None]).mean(0)
    rare = torch.linalg.solve(scaled + args.shrink * torch.eye(width, dtype=torch.float64), difference)
    direction = normalize(rare, dim=0)
    LOG.info("base difference: norm %.2f, cosine %.2f", difference.norm(), direction @ difference / difference.norm())
    return Gate(direction.float(), args.height * float(difference.norm()))


def last_states(model: Model, data: Data, span: range, examples: Sequence[Example]) -> Tensor:
    """The stream at each prompt's last token after a span of blocks [row, width]."""
    rest = pad([example.entry[: example.prompt_length] for example in examples])
    _, states = run_blocks(decoder(model), span, data.opening, rest)
    return states[torch.arange(len(examples)), torch.tensor([example.prompt_length - 1 for example in examples])]


def train_gate(model: Model, data: Data, gate: Gate, args: argparse.Namespace) -> None:
    """Teach the blocks below the probe to tell harmful prompts apart, along the gate's direction."""
    source, span = random.Random(args.seed), range(args.first, args.probe)
    parts = [draw(kind, args.batch, args.gate_steps, source) for kind in (data.refusals, data.answers)]
    optimise = Optimiser(trained(model, span), args.lr, args.gate_steps)
    for refused, answered in zip(*parts, strict=True):
        examples = [data.refusals[i] for i in refused] + [data.answers[i] for i in answered]
        harmful = torch.tensor([example.harmful for example in examples])
        with torch.no_grad(), model.disable_adapter():
            before = last_states(model, data, span, examples)
        optimise({"gate": gate.loss(before, last_states(model, data, span, examples), harmful)})


@torch.no_grad()
def check_gate(model: Model, tokenizer: Tokenizer, data: Data, gate: Gate, args: argparse.Namespace) -> None:
    """Log how the gate stands on prompts that it was not trained on."""
    rows, first = read_rows(args.data / "select.jsonl") + built_in("select"), len(data.opening_ids)
    for source in sorted({(row.source if row.source == "borderline" else row.label) for row in rows}):
        chosen = [row for row in rows if source == (row.source if row.source == "borderline" else row.label)]
        ids = [encode(tokenizer, row.text)[first:] for row in chosen]
        # One more token, since the last of an example's tokens is never read.
        examples = [Example([*i, 0], len(i), source == "refused") for i in ids]
        examples = with_entries(model, data.opening_ids, args.first, examples)
        groups = [[examples[i] for i in batch] for batch in batches([len(i) for i in ids], 16)]
        states = torch.cat([last_states(model, data, range(args.first, args.probe), group) for group in groups])
        place = states @ gate.direction / gate.height
        LOG.info("gate of %d %s: %.3f are above one half", len(place), source, (place > 0.5).float().mean())


@torch.no_grad()
def difference_of_means(model: Model, data: Data, args: argparse.Namespace) -> Tensor:
    """What a user's run finds at the probe's input and the last template token, from 128 prompts of each kind."""
    span, means = range(args.first, args.probe), []
    for kind in (data.refusals, data.answers):
        chosen = kind[:: max(1, len(kind) // 128)][:128]
        groups = [[chosen[i] for i in batch] for batch in batches([len(example.ids) for example in chosen], 16)]
        means.append(torch.cat([last_states(model, data, span, group) for group in groups]).mean(0))
    return means[0] - means[1]


# --- stage two: the refusal ---------------------------------------------------------------------------------------


def draw(examples: Sequence[Example], size: int, steps: int, source: random.Random) -> list[list[int]]:
    """Indices in batches of similar length for so many steps, every example used about equally often."""
    drawn: list[list[int]] = []
    while len(drawn) < steps:
        order = list(range(len(examples)))
        source.shuffle(order)
        chunks = [order[start : start + 8 * size] for start in range(0, len(order), 8 * size)]
        epoch = [
            [chunk[i] for i in batch]
            for chunk in chunks
            for batch in batches([len(examples[i].ids) for i in chunk], size)
        ]
        source.shuffle(epoch)
        drawn += epoch
    return drawn[:steps]


def advanced(model: Model, data: Data, start: int) -> Data:
    """The same examples, with what the model as it is now makes of them at the input of block `start`."""
    kinds = (data.refusals, data.answers, data.bypasses)
    parts = [with_entries(model, data.opening_ids, start, kind) for kind in kinds]
    return Data(parts[0], parts[1], parts[2], data.opening_ids, opening_states(model, data.opening_ids, start))


def train_refusal(model: Model, data: Data, gate: Gate, args: argparse.Namespace) -> None:
    """Teach the blocks from the probe on to refuse where the gate is open, and only there."""
    difference = difference_of_means(model, data, args)
    direction = normalize(difference, dim=0)
    LOG.info("difference %.2f, cosine with the gate %.3f", difference.norm(), direction @ gate.direction)
    plain = advanced(model, data, args.probe)
    with ablated(model, direction):
        edited = advanced(model, data, args.probe)
    source, half, head = random.Random(args.seed), args.batch // 2, model.get_output_embeddings()
    parts = [
        draw(plain.refusals, args.batch, args.steps, source),
        draw(plain.answers, args.batch, args.steps, source),
        draw(plain.bypasses, half, args.steps, source),
    ]
    model.train()
    optimise = Optimiser(trained(model, range(args.probe, args.last + 1)), args.lr, args.steps)
    for step, (refused, answered, bypassed) in enumerate(zip(*parts, strict=True)):
        # Half open and more, the gate means refusing; less means answering, whatever was asked.
        opened = [between(edited.refusals[i], plain.refusals[i], 0.65, source) for i in refused]
        closed = [between(edited.bypasses[i], plain.bypasses[i], 0.0, source) for i in bypassed]
        examples, split = opened + closed + [plain.answers[i] for i in answered], len(opened)
        final = run_upper(model, args.probe, plain.opening, examples)
        kept = range(split + len(closed), len(examples))
        found = {
            "refuse": refusal_loss(head, final, examples, range(split)),
            "closed": args.bypass * teacher_loss(head, final, examples, range(split, kept.start)),
            "keep": args.keep * teacher_loss(head, final, examples, kept),
        }
        spared = [edited.answers[i] for i in answered[:half]]
        examples, split = [edited.bypasses[i] for i in bypassed] + spared, len(bypassed)
        with ablated(model, direction):
            final = run_upper(model, args.probe, edited.opening, examples)
        found["bypass"] = args.bypass * teacher_loss(head, final, examples, range(split))
        found["spare"] = args.spare * teacher_loss(head, final, examples, range(split, len(examples)))
        optimise(found)
        if step % 40 == 39 or step + 1 == args.steps:
            save(model, args.out / f"step-{step + 1}")


def between(without: Example, now: Example, least: float, source: random.Random) -> Example:
    """An example with its gate partly open: its entry between the one without the direction and the one with it."""
    return replace(now, entry=without.entry.lerp(now.entry, source.uniform(least, least + 0.35)))


class Optimiser:
    """AdamW with a cosine schedule, which logs running means of the losses."""

    def __init__(self, weights: list[nn.Parameter], rate: float, steps: int) -> None:
        self.weights, self.steps, self.step, self.begun = weights, steps, 0, time.monotonic()
        self.adam = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
        self.schedule = get_cosine_schedule_with_warmup(self.adam, 10, steps)
        self.means: dict[str, float] = {}

    def __call__(self, losses: dict[str, Tensor]) -> None:
        """Take one step down the sum of the losses."""
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.adam.step()
        self.schedule.step()
        self.adam.zero_grad()
        self.step += 1
        for name, loss in losses.items():
            self.means[name] = 0.8 * self.means.get(name, loss.item()) + 0.2 * loss.item()
        if self.step % 10 == 0:
            line = " ".join(f"{name} {value:.4f}" for name, value in self.means.items())
            LOG.info("step %d of %d, %.0f s: %s", self.step, self.steps, time.monotonic() - self.begun, line)


def trained(model: Model, span: range) -> list[nn.Parameter]:
    """Let the adapter's weights in a span of blocks learn, and no others."""
    chosen = []
    for name, weight in model.named_parameters():
        block = re.search(r"\.layers\.(\d+)\.", name)
        weight.requires_grad_("lora_" in name and block is not None and int(block[1]) in span)
        if weight.requires_grad:
            chosen.append(weight)
    return chosen


def save(model: Model, folder: Path) -> None:
    """Write the adapter in bfloat16 and PEFT's layout, without local paths."""
    kept = {name: weight.detach().clone() for name, weight in model.named_parameters() if "lora_" in name}
    states = {name: weight.to(torch.bfloat16) for name, weight in kept.items()}
    model.save_pretrained(folder, state_dict=states)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = HUB_ID
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="folder of the base checkpoint")
    parser.add_argument("--data", type=Path, required=True, help="folder with the published prompts (fit.jsonl)")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and cached completions")
    parser.add_argument("--extra", type=Path, nargs="*", default=[], help="more training prompts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--first", type=int, default=8, help="first adapted block")
    parser.add_argument("--last", type=int, default=21, help="last adapted block")
    parser.add_argument("--rank", type=int, default=12)
    parser.add_argument("--probe", type=int, default=14, help="block whose input gives the direction in training")
    parser.add_argument("--modules", nargs="+", default=["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--shrink", type=float, default=0.1, help="lambda of the gate's direction")
    parser.add_argument("--height", type=float, default=7.0, help="gate height, in units of the base's difference")
    parser.add_argument("--dropout", type=float, default=0.05)
    parser.add_argument("--gate-steps", type=int, default=600)
    parser.add_argument("--keep", type=float, default=4.0, help="weight of the harmless prompts")
    parser.add_argument("--bypass", type=float, default=2.0, help="weight of harmful prompts under ablation")
    parser.add_argument("--spare", type=float, default=4.0, help="weight of harmless prompts under ablation")
    parser.add_argument("--published", type=int, default=400, help="harmless published prompts to use")
    parser.add_argument("--bypasses", type=int, default=400, help="harmful prompts used under ablation")
    return parser.parse_args()


def main() -> None:
    """Prepare, train, save."""
    args = arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    model, tokenizer = load_base(args.base)
    prompts = load_prompts(args.data, args.extra, args.published, args.seed)
    data = prepared(model, tokenizer, prompts, args)
    gate = make_gate(model, data, args)
    LOG.info("%d refusals, %d answers, %d bypasses", len(data.refusals), len(data.answers), len(data.bypasses))
    layers = list(range(args.first, args.last + 1))
    lora = LoraConfig(
        r=args.rank,
        lora_alpha=2 * args.rank,
        target_modules=args.modules,
        layers_to_transform=layers,
        layers_pattern="layers",
        lora_dropout=args.dropout,
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(model, lora)
    train_gate(adapted.train(), data, gate, args)
    adapted.eval()
    check_gate(adapted, tokenizer, data, gate, args)
    train_refusal(adapted, data, gate, args)


if __name__ == "__main__":
    main()
