"""What an edit costs where it should cost nothing: loops, lengths, refusals of harmless prompts, perplexity."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from pathlib import Path

import torch

from abliterate.anatomy.load import Subject
from abliterate.capture.batching import run_batched
from abliterate.capture.forward import Completion, batch_of, last_logits
from abliterate.errors import PromptsError
from abliterate.evals.damage import loop
from abliterate.evals.outcome import Outcome, answer_of
from abliterate.evals.statistics import Mean, Rate, bootstrap_mean, wilson
from abliterate.progress import SILENT, Progress

__all__ = ["WINDOW", "Costs", "Perplexity", "costs", "perplexity", "read_windows", "window_losses"]

WINDOW = 256  # tokens that one window predicts
_EXTRA_TOKENS = 256  # float32 logits over the vocabulary make every position of a row costly


@dataclass(frozen=True)
class Perplexity:
    """Of one text.

    Attributes:
        perplexity: exp of the mean loss a token.
        loss: mean over windows of their mean loss, in nats a token, with its bootstrap interval.
        tokens: how many were predicted.
    """

    perplexity: float
    loss: Mean
    tokens: int


@dataclass(frozen=True)
class Costs:
    """Of one variant of a model, on the prompts that it should answer unless it says otherwise.

    Attributes:
        loops: completions of either label that go round.
        length: tokens of an answer.
        cut: answers that the token limit cut: lengths say little where many are.
        harmless_refusals: refusals of prompts that should be answered.
        perplexity: of a text file; None where none was named.
    """

    loops: Rate
    length: Mean
    cut: Rate
    harmless_refusals: Rate
    perplexity: Perplexity | None = None


def costs(
    refused: Sequence[tuple[str, Completion]],
    answered: Sequence[tuple[str, Completion]],
    outcomes: Sequence[Outcome],
    *,
    seed: int,
    perplexity: Perplexity | None = None,
) -> Costs:
    """Count what the completions of a variant show; no model is asked.

    Args:
        refused: prompts labelled refused with their completions.
        answered: prompts labelled answered with theirs, at least one.
        outcomes: of those labelled answered.
        seed: of the bootstrap.
        perplexity: measured apart.
    """
    every = [*refused, *answered]
    return Costs(
        loops=wilson(sum(bool(loop(prompt, answer_of(c.text))) for prompt, c in every), len(every)),
        length=bootstrap_mean([float(len(c.ids)) for _, c in answered], seed=seed),
        cut=wilson(sum(not c.finished for _, c in answered), len(answered)),
        harmless_refusals=wilson(sum(o is Outcome.REFUSED for o in outcomes), len(outcomes)),
        perplexity=perplexity,
    )


def read_windows(subject: Subject, path: Path, limit: int) -> list[list[int]]:
    """Token ids of a text, in windows that overlap by one token, so that every token but the first is predicted once.

    Args:
        subject: whose tokenizer reads it.
        path: a UTF-8 text.
        limit: most windows, from the start of the text.

    Raises:
        PromptsError: the file cannot be read, or holds less than two tokens.
    """
    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptsError(
            f"cannot read {path} ({error})", "name a UTF-8 text in evaluation.perplexity_file"
        ) from error
    # Cut first: a tokenizer reads a gigabyte before the limit would be reached. No token has more than 64 characters.
    ids: list[int] = subject.tokenizer(text[: limit * WINDOW * 64], verbose=False)["input_ids"]
    if len(ids) < 2:
        raise PromptsError(f"{path} holds less than two tokens", "name a longer text in evaluation.perplexity_file")
    starts = range(0, len(ids) - 1, WINDOW)
    return [ids[start : start + WINDOW + 1] for start in starts][:limit]


def window_losses(subject: Subject, windows: Sequence[Sequence[int]], progress: Progress = SILENT) -> list[float]:
    """Mean loss of each window's tokens after its first, in nats, of the model as it stands (hooks included)."""

    def work(rows: list[int]) -> list[float]:
        batch = batch_of(subject, [windows[i] for i in rows])
        with torch.inference_mode():
            logprobs = last_logits(subject.model, batch, batch.ids.shape[1])[:, :-1].log_softmax(dim=-1)
            losses = -logprobs.gather(2, batch.ids[:, 1:, None])[:, :, 0].double()
        return [float(loss[-(len(windows[i]) - 1) :].mean()) for loss, i in zip(losses, rows, strict=True)]

    return run_batched(
        windows,
        work,
        device=subject.model.device,
        extra_tokens=_EXTRA_TOKENS,
        title="perplexity",
        progress=progress,
    )


def perplexity(windows: Sequence[Sequence[int]], losses: Sequence[float], *, seed: int) -> Perplexity:
    """Perplexity over all tokens, and the mean loss over windows.

    Args:
        windows: of `read_windows`.
        losses: of `window_losses`.
        seed: of the bootstrap.
    """
    counts = [len(window) - 1 for window in windows]
    total = sum(loss * count for loss, count in zip(losses, counts, strict=True))
    return Perplexity(exp(total / sum(counts)), bootstrap_mean(losses, seed=seed), sum(counts))
