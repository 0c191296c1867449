"""How far an edit moves the model at each token of an answer: the mean KL by position.

The same quantity as `evals.drift` averages over a whole completion (methods.md 5.1), on the first few prompts only:
it shows where in the answer an edit acts, and no figure is taken from it.
"""

from collections.abc import Sequence

import torch

from abliterate.capture.batching import run_batched
from abliterate.capture.forward import Completion, batch_of, last_logits
from abliterate.edits.edit import Edit
from abliterate.edits.hooks import edited
from abliterate.evals.drift import EXTRA_TOKENS
from abliterate.evals.effects import kl_divergence
from abliterate.evals.statistics import Mean, bootstrap_mean
from abliterate.runs.context import Context

PROMPTS = 16
POSITIONS = 64
FEWEST = 8  # completions that must reach a position for its mean to be shown


def kl_by_token(
    run: Context, edit: Edit, sequences: Sequence[Sequence[int]], completions: Sequence[Completion], title: str
) -> list[Mean]:
    """Mean KL(unedited || edited) in nats at the first, second, ... token of the unedited model's own completions.

    Args:
        run: the model.
        edit: applied with hooks.
        sequences: token ids of prompts; the first `PROMPTS` are used.
        completions: the unedited model's own answers to them.
        title: for the progress bar.

    Returns:
        One mean a position with its bootstrap interval over the completions that reach it, as far as `FEWEST` do.
    """
    texts = [[*ids, *c.ids] for ids, c in zip(sequences[:PROMPTS], completions[:PROMPTS], strict=True)]

    def work(rows: list[int]) -> list[list[float]]:
        batch = batch_of(run.subject, [texts[i] for i in rows])
        lengths = [max(len(completions[i].ids), 1) for i in rows]
        with torch.inference_mode():
            before = last_logits(run.subject.model, batch, max(lengths) + 1)
            with edited(run.subject, edit):
                after = last_logits(run.subject.model, batch, max(lengths) + 1)
        logs = (
            (b[-n - 1 : -1].log_softmax(dim=-1), a[-n - 1 : -1].log_softmax(dim=-1))
            for b, a, n in zip(before, after, lengths, strict=True)
        )
        return [kl_divergence(p, q).tolist()[:POSITIONS] for p, q in logs]

    values = run_batched(
        texts, work, device=run.subject.model.device, extra_tokens=EXTRA_TOKENS, title=title, progress=run.progress
    )
    reached = [[row[i] for row in values if len(row) > i] for i in range(POSITIONS)]
    seed = run.settings.evaluation.seed
    return [bootstrap_mean(column, seed=seed) for column in reached if len(column) >= FEWEST]
