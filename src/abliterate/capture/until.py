"""Greedy completions that end once the caller is sure of them; rows that are done leave the batch.

`generate` goes on with every row until the longest is done, and on a machine that is busy with each row that is most of
the work: in a batch of refusals one long answer makes all of them wait. Here it runs a few tokens at a time, and what
is done is taken out of the batch and of the cache.
"""

from collections.abc import Callable, Sequence

import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from abliterate.anatomy.load import Subject
from abliterate.capture.batching import run_batched
from abliterate.capture.forward import Completion, batch_of, completion_of, greedy
from abliterate.progress import SILENT, Progress

STEP = 8  # tokens between two looks


def complete_until(
    subject: Subject,
    sequences: Sequence[Sequence[int]],
    settled: Callable[[int, str], bool],
    *,
    max_new_tokens: int,
    title: str = "complete",
    progress: Progress = SILENT,
) -> list[Completion]:
    """Greedy completions of each sequence, in order: those of `complete`, or a beginning of them.

    Args:
        subject: the model.
        sequences: token ids of the prompts.
        settled: whether the completion of this number need not go on, from its text so far. It is asked every `STEP`
            tokens; a completion that it ends is not `finished`.
        max_new_tokens: most tokens of a completion.
        title: for the progress bar.
        progress: told of every finished prompt.
    """

    def work(rows: list[int]) -> list[Completion]:
        return _complete(subject, [sequences[i] for i in rows], lambda i, text: settled(rows[i], text), max_new_tokens)

    return run_batched(
        sequences,
        work,
        device=subject.model.device,
        # Most rows leave long before the limit, so that larger batches fit; where they do not, the batch is halved.
        extra_tokens=max(STEP, max_new_tokens // 4),
        title=title,
        progress=progress,
    )


def _complete(
    subject: Subject, sequences: Sequence[Sequence[int]], settled: Callable[[int, str], bool], max_new_tokens: int
) -> list[Completion]:
    batch = batch_of(subject, sequences)
    ids, mask, start = batch.ids, batch.mask, batch.ids.shape[1]
    cache: Cache | None = None
    going = list(range(len(sequences)))
    done: dict[int, Completion] = {}
    while going:
        output = greedy(subject, ids, mask, min(STEP, start + max_new_tokens - ids.shape[1]), cache)
        ids, cache = output.sequences, getattr(output, "past_key_values", None)
        mask = torch.cat([mask, mask.new_ones(len(going), ids.shape[1] - mask.shape[1])], dim=1)
        kept = []
        for place, (number, tokens) in enumerate(zip(going, ids[:, start:].tolist(), strict=True)):
            completion = completion_of(subject, tokens)
            if completion.finished or len(completion.ids) >= max_new_tokens or settled(number, completion.text):
                done[number] = completion
            else:
                kept.append(place)
        going = [going[place] for place in kept]
        chosen = torch.tensor(kept, dtype=torch.long, device=ids.device)
        ids, mask, cache = ids[chosen], mask[chosen], _rows(cache, chosen)
    return [done[number] for number in range(len(sequences))]


def _rows(cache: Cache | None, chosen: torch.Tensor) -> Cache | None:
    """The cache of these rows; None where it holds more than keys and values, so that the rows are read again.

    transformers selects rows of attention's states, but not of a recurrence beside them, and does not say so.
    """
    plain = (DynamicLayer, DynamicSlidingWindowLayer)
    if not isinstance(cache, Cache) or not all(type(layer) in plain for layer in cache.layers):
        return None
    if len(chosen):
        cache.batch_select_indices(chosen)
    return cache
