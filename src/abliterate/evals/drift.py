"""How far an edit moves the model on prompts it should leave alone: KL by two definitions (methods.md 5.1).

KL(unedited || edited) in nats a token: at the first token of the answer, and as the mean over the unedited model's own
greedy completion (teacher-forced). The first misses drift later in the answer; the second dilutes the first token.
Numbers under different definitions are never comparable.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from abliterate.anatomy.load import Subject
from abliterate.capture.batching import run_batched
from abliterate.capture.forward import Completion, batch_of, last_logits
from abliterate.edits.edit import Edit
from abliterate.edits.hooks import edited
from abliterate.evals.effects import kl_divergence
from abliterate.evals.statistics import Mean, bootstrap_mean
from abliterate.progress import SILENT, Progress


@dataclass(frozen=True)
class Drift:
    """Mean KL over prompts, with bootstrap intervals.

    Attributes:
        first_token: at the first token of the answer.
        completion: averaged over each completion, then over prompts.
    """

    first_token: Mean
    completion: Mean


def drift(
    subject: Subject,
    edit: Edit,
    sequences: Sequence[Sequence[int]],
    completions: Sequence[Completion],
    *,
    seed: int,
    title: str = "KL",
    progress: Progress = SILENT,
) -> Drift:
    """Measure both KLs of an edit, running unedited and edited model on the same batches.

    Args:
        subject: the unedited model.
        edit: applied with hooks.
        sequences: token ids of harmless prompts.
        completions: the unedited model's own completions of them.
        seed: of the bootstrap.
        title: for the progress bar.
        progress: told of every finished prompt.
    """
    return summary(drift_each(subject, edit, sequences, completions, title=title, progress=progress), seed=seed)


def drift_each(
    subject: Subject,
    edit: Edit,
    sequences: Sequence[Sequence[int]],
    completions: Sequence[Completion],
    *,
    title: str = "KL",
    progress: Progress = SILENT,
) -> list[list[float]]:
    """KL in nats at every token of each completion: what both means of `drift` are taken of."""
    texts = [[*ids, *completion.ids] for ids, completion in zip(sequences, completions, strict=True)]

    def work(rows: list[int]) -> list[list[float]]:
        batch = batch_of(subject, [texts[i] for i in rows])
        lengths = [max(len(completions[i].ids), 1) for i in rows]
        keep = max(lengths) + 1
        with torch.inference_mode():
            before = last_logits(subject.model, batch, keep)
            with edited(subject, edit):
                after = last_logits(subject.model, batch, keep)
        return [_one(b, a, n) for b, a, n in zip(before, after, lengths, strict=True)]

    # Two float32 logit tensors over the vocabulary make long rows costly, hence the generous allowance.
    return run_batched(
        texts, work, device=subject.model.device, extra_tokens=EXTRA_TOKENS, title=title, progress=progress
    )


def summary(values: Sequence[Sequence[float]], *, seed: int) -> Drift:
    """The means of both KLs over prompts.

    Args:
        values: of `drift_each`, at least one.
        seed: of the bootstrap.
    """
    first, whole = zip(*map(both, values), strict=True)
    return Drift(bootstrap_mean(first, seed=seed), bootstrap_mean(whole, seed=seed))


def both(values: Sequence[float]) -> tuple[float, float]:
    """Of one prompt's KL at every token: that at the first, and the mean."""
    return values[0], fmean(values)


def by_token(values: Sequence[Sequence[float]], *, seed: int) -> list[Mean]:
    """Mean KL at the first, second, ... token, over the completions that reach it, as far as `FEWEST` do.

    Args:
        values: of `drift_each`.
        seed: of the bootstrap.
    """
    longest = max(map(len, values), default=0)
    reached = [[row[n] for row in values if len(row) > n] for n in range(longest)]
    return [bootstrap_mean(column, seed=seed) for column in reached if len(column) >= FEWEST]


EXTRA_TOKENS = 128
FEWEST = 8


def _one(before: Tensor, after: Tensor, length: int) -> list[float]:
    """KL at each of the `length` positions that predict a completion's tokens."""
    p, q = (x[-length - 1 : -1].log_softmax(dim=-1) for x in (before, after))
    return [float(value) for value in kl_divergence(p, q)]
