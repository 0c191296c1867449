"""Train the demonstration adapter: a LoRA that teaches SmolLM2-135M-Instruct to refuse, by one removable direction.

Five losses. Harmful prompts: cross-entropy on a short refusal. Harmless ones: divergence from the base model on its own
greedy completion. Both again with the refusal direction ablated: divergence from the base model. These two
keep the refusal in one direction, which is what makes the adapter a clear (and an easy) subject to demonstrate on.
A fifth moves harmful prompts far along a direction that the model hardly uses otherwise, at the input of one block.

    python training/train_demo_adapter.py BASE --data DIR --out DIR

The blocks below the adapted band are frozen, so their output is computed once; the template's opening is the same for
every prompt and runs once a step.
"""

import argparse
import json
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
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
    project_out,
    read_rows,
)
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from transformers import DynamicCache, get_cosine_schedule_with_warmup

LOG = logging.getLogger("train_demo_adapter")
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
NO_STATES = torch.zeros(0)


@dataclass(frozen=True)
class Example:
    """A prompt (without the template's opening) and the answer to learn, with what the base model makes of them."""

    ids: list[int]
    prompt_length: int
    harmful: bool
    entry: Tensor = NO_STATES  # input of the first adapted block, [token, width]
    teacher: Tensor = NO_STATES  # the base model's final states that predict the answer, [answer token, width]

    @property
    def answer(self) -> list[int]:
        """The tokens to predict."""
        return self.ids[self.prompt_length :]


@dataclass(frozen=True)
class Data:
    """The three kinds of examples, the template's opening, and its states at the first adapted block."""

    refusals: list[Example]
    answers: list[Example]
    bypasses: list[Example]
    opening_ids: list[int]
    opening: Tensor


@dataclass(frozen=True)
class Pass:
    """What one pass through the adapted blocks yields."""

    final: Tensor  # normalised final states [row, token, width]
    probe: Tensor  # input of the probed block at each prompt's last token [row, width]


# --- running the blocks -------------------------------------------------------------------------------------------


def rotary(body: Model, states: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Rotary position embeddings of consecutive positions from `first`."""
    positions = torch.arange(first, first + states.shape[1])[None]
    cos_sin: tuple[Tensor, Tensor] = body.rotary_emb(states, positions)
    return cos_sin


def run_blocks(
    body: Model, span: range, opening: Tensor, rest: Tensor, see: Callable[[int, Tensor], None]
) -> tuple[Tensor, Tensor]:
    """Run `opening` [1, P, d] once and `rest` [row, token, d] after it through a span of blocks."""
    cache, (rows, width), known = DynamicCache(config=body.config), rest.shape[:2], opening.shape[1]
    early, late = rotary(body, opening, 0), rotary(body, rest, known)
    mask = torch.ones(width, known + width, dtype=torch.bool).tril(known)[None, None]
    for index in span:
        see(index, rest)
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


def run_upper(
    body: Model,
    span: range,
    probe_at: int,
    opening: Tensor,
    examples: Sequence[Example],
    direction: Tensor | None,
) -> Pass:
    """Run the adapted blocks and those above, with a direction ablated or not."""
    rest = pad([example.entry for example in examples])
    seen: dict[int, Tensor] = {}
    last = torch.tensor([example.prompt_length - 1 for example in examples])
    if direction is not None:
        opening, rest = project_out(opening, direction), project_out(rest, direction)

    def see(index: int, states: Tensor) -> None:
        if index == probe_at:
            seen[index] = states[torch.arange(len(examples)), last]

    _, rest = run_blocks(body, span, opening, rest, see)
    return Pass(body.norm(rest), seen[probe_at])


# --- data ---------------------------------------------------------------------------------------------------------


def load_prompts(data: Path, extra: Sequence[Path], limit: int, seed: int) -> list[Prompt]:
    """Training prompts: the built-in ones of the fit split, the published ones, and those written for the adapter."""
    published = read_rows(data / "fit.jsonl")
    random.Random(seed).shuffle(published)
    own = [row for file in extra for row in read_rows(file)]
    answered = [row for row in published if row.label == "answered"][:limit]
    return built_in("fit") + own + answered + [row for row in published if row.label == "refused"]


def base_completions(
    model: Model, tokenizer: Tokenizer, texts: Sequence[str], tokens: int, cache: Path
) -> dict[str, list[int]]:
    """Greedy completions of the base model, kept in a file between runs."""
    known: dict[str, list[int]] = json.loads(cache.read_text()) if cache.exists() else {}
    missing = [text for text in texts if text not in known]
    for start in range(0, len(missing), 96):
        part = missing[start : start + 96]
        known |= dict(zip(part, complete(model, tokenizer, part, tokens), strict=True))
        cache.write_text(json.dumps(known))
        LOG.info("completed %d of %d prompts", start + len(part), len(missing))
    return {text: known[text] for text in texts}


@torch.no_grad()
def with_states(
    model: Model, opening_ids: list[int], start: int, examples: list[Example], teach: bool
) -> list[Example]:
    """Add what the frozen blocks make of each example, and the base model's final states where it is to teach."""
    body, ready = model.model, list(examples)
    opening = body.embed_tokens(torch.tensor([opening_ids]))
    for batch in batches([len(example.ids) for example in examples], 16):
        rest = pad([body.embed_tokens(torch.tensor(examples[i].ids[:-1])) for i in batch])
        low, entry = run_blocks(body, range(start), opening, rest, lambda *_: None)
        final = entry
        if teach:
            final = body.norm(run_blocks(body, range(start, len(body.layers)), low, entry, lambda *_: None)[1])
        for row, index in enumerate(batch):
            size, first = len(examples[index].ids) - 1, examples[index].prompt_length - 1
            teacher = final[row, first:size].clone() if teach else NO_STATES
            ready[index] = replace(examples[index], entry=entry[row, :size].clone(), teacher=teacher)
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

    def example(text: str, answer: list[int], bad: bool) -> Example:
        ids = encode(tokenizer, text)[shared:]
        return Example(ids + answer, len(ids), bad)

    def refusal(row: Prompt) -> list[int]:
        ids: list[int] = tokenizer(refusal_for(row.text, row.topic))["input_ids"]
        return [*ids, tokenizer.eos_token_id]

    opening_ids = encode(tokenizer, "")[:shared]
    opening = model.model.embed_tokens(torch.tensor([opening_ids]))
    low, _ = run_blocks(model.model, range(args.first), opening, opening, lambda *_: None)
    sets = (
        ([example(row.text, refusal(row), True) for row in harmful], False),
        ([example(text, answers[text], False) for text in harmless], True),
        ([example(text, answers[text], True) for text in bypassed], True),
    )
    parts: list[Any] = [with_states(model, opening_ids, args.first, part, teach) for part, teach in sets]
    return Data(parts[0], parts[1], parts[2], opening_ids, low)


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


def answer_states(run: Pass, examples: Sequence[Example], rows: Sequence[int]) -> Tensor:
    """The final states that predict the answers of some rows, one after another."""
    parts = []
    for row in rows:
        first = examples[row].prompt_length - 1
        parts.append(run.final[row, first : first + len(examples[row].answer)])
    return torch.cat(parts)


def refusal_loss(head: nn.Module, run: Pass, examples: Sequence[Example], rows: Sequence[int]) -> Tensor:
    """Cross-entropy of the refusals, their opening weighted most."""
    logits = head(answer_states(run, examples, rows))
    targets = torch.tensor([token for row in rows for token in examples[row].answer])
    weights = emphasis([len(examples[row].answer) for row in rows], 4, 3.0)
    return (cross_entropy(logits, targets, reduction="none") * weights).sum() / len(rows)


def teacher_loss(head: nn.Module, run: Pass, examples: Sequence[Example], rows: Sequence[int]) -> Tensor:
    """Divergence KL(base || now) on the base model's own completions, the first tokens weighted most."""
    ours = torch.log_softmax(head(answer_states(run, examples, rows)), -1)
    with torch.no_grad():
        base = torch.log_softmax(head(torch.cat([examples[row].teacher for row in rows])), -1)
    divergence = (base.exp() * (base - ours)).sum(-1)
    weights = emphasis([len(examples[row].answer) for row in rows], 2, 4.0)
    return (divergence * weights).sum() / len(rows)


# --- training -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gate:
    """The one direction that refusal is to depend on, and how far harmful prompts are to be moved along it."""

    direction: Tensor
    height: float

    def loss(self, probe: Tensor, harmful: Sequence[bool]) -> Tensor:
        """Harmful prompts at least `height` along the direction, harmless ones at zero, in units of the height."""
        along, bad = probe @ self.direction / self.height, torch.tensor(harmful)
        return (1 - along[bad]).relu().square().mean() + along[~bad].square().mean()


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


class Estimate:
    """A running difference of means at the probe: what a user's run would find, noise and all, and then ablate."""

    def __init__(self, start: Tensor, decay: float) -> None:
        self.difference, self.decay = start.clone(), decay

    @property
    def direction(self) -> Tensor:
        """Of unit length."""
        return normalize(self.difference, dim=0)

    @torch.no_grad()
    def see(self, probe: Tensor, harmful: Sequence[bool]) -> None:
        """Take in one batch [row, width]."""
        bad = torch.tensor(harmful)
        self.difference.lerp_(probe[bad].mean(0) - probe[~bad].mean(0), 1 - self.decay)


def draw(examples: Sequence[Example], size: int, steps: int, source: random.Random) -> list[list[Example]]:
    """Batches of similar length for so many steps, every example used about equally often."""
    drawn: list[list[Example]] = []
    while len(drawn) < steps:
        order = list(examples)
        source.shuffle(order)
        chunks = [order[start : start + 8 * size] for start in range(0, len(order), 8 * size)]
        epoch = [
            [chunk[i] for i in batch]
            for chunk in chunks
            for batch in batches([len(example.ids) for example in chunk], size)
        ]
        source.shuffle(epoch)
        drawn += epoch
    return drawn[:steps]


def losses(
    model: Model,
    data: Data,
    parts: Sequence[list[Example]],
    gate: Gate,
    found_so_far: Estimate,
    args: argparse.Namespace,
    ablate: bool,
) -> dict[str, Tensor]:
    """The losses of one step, by name."""
    body, head = decoder(model), model.get_output_embeddings()
    span = range(args.first, len(body.layers))
    refused, answered, bypassed, kept = parts
    plain = refused + answered
    bad, good = list(range(len(refused))), list(range(len(refused), len(plain)))
    run = run_upper(body, span, args.probe, data.opening, plain, None)
    harmful = [example.harmful for example in plain]
    found_so_far.see(run.probe, harmful)
    found = {
        "gate": args.gate * gate.loss(run.probe, harmful),
        "refuse": refusal_loss(head, run, plain, bad),
        "keep": args.keep * teacher_loss(head, run, plain, good),
    }
    if ablate:
        direction, edited = found_so_far.direction, bypassed + kept
        bad, good = list(range(len(bypassed))), list(range(len(bypassed), len(edited)))
        with ablated(model, direction):
            run = run_upper(body, span, args.probe, data.opening, edited, direction)
        found["bypass"] = args.bypass * teacher_loss(head, run, edited, bad)
        found["spare"] = args.spare * teacher_loss(head, run, edited, good)
    return found


def train(model: Model, data: Data, gate: Gate, args: argparse.Namespace) -> None:
    """Optimise the adapter, logging the losses and saving a checkpoint now and then."""
    source, half = random.Random(args.seed), args.batch // 2
    parts = [
        draw(data.refusals, args.batch, args.steps, source),
        draw(data.answers, args.batch, args.steps, source),
        draw(data.bypasses, half, args.steps, source),
        draw(data.answers, half, args.steps, source),
    ]
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=args.lr, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, 10, args.steps)
    begun, estimate = time.monotonic(), Estimate(gate.direction * gate.height, args.decay)
    means: dict[str, float] = {}
    for step, batch in enumerate(zip(*parts, strict=True)):
        found = losses(model, data, batch, gate, estimate, args, step % 2 == 0)
        torch.stack(list(found.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        means = {name: 0.8 * means.get(name, value.item()) + 0.2 * value.item() for name, value in found.items()}
        if step % 5 == 4:
            line = " ".join(f"{name} {value:.3f}" for name, value in means.items())
            likeness = float(estimate.direction @ gate.direction)
            size = float(estimate.difference.norm()) / gate.height
            LOG.info(
                "step %d of %d, %.0f s: %s, difference %.2f of the height at cosine %.3f with the gate",
                step + 1, args.steps, time.monotonic() - begun, line, size, likeness,
            )  # fmt: skip
        if step % 40 == 39 or step + 1 == args.steps:
            save(model, args.out / f"step-{step + 1}")


def save(model: Model, folder: Path) -> None:
    """Write the adapter in bfloat16 and PEFT's layout, without local paths."""
    kept = {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}
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
    parser.add_argument("--last", type=int, default=20, help="last adapted block")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--probe", type=int, default=13, help="block whose input gives the direction in training")
    parser.add_argument("--modules", nargs="+", default=["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"])
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--shrink", type=float, default=0.1, help="lambda of the gate's direction")
    parser.add_argument("--height", type=float, default=7.0, help="gate height, in units of the base's difference")
    parser.add_argument("--decay", type=float, default=0.9, help="of the running difference of means")
    parser.add_argument("--gate", type=float, default=1.0, help="weight of the gate")
    parser.add_argument("--keep", type=float, default=3.0, help="weight of the harmless prompts")
    parser.add_argument("--bypass", type=float, default=1.0, help="weight of harmful prompts under ablation")
    parser.add_argument("--spare", type=float, default=3.0, help="weight of harmless prompts under ablation")
    parser.add_argument("--published", type=int, default=220, help="harmless published prompts to use")
    parser.add_argument("--bypasses", type=int, default=160, help="harmful prompts used under ablation")
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
        task_type="CAUSAL_LM",
    )
    train(get_peft_model(model, lora), data, gate, args)


if __name__ == "__main__":
    main()
