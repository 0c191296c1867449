"""Forward passes over prompts: next-token logits, and greedy completions."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from abliterate.anatomy.load import Subject
from abliterate.capture.batching import Batch, pad, run_batched
from abliterate.progress import SILENT, Progress


@dataclass(frozen=True)
class Completion:
    """What a model answered.

    Attributes:
        text: decoded without special tokens.
        ids: generated token ids, up to and including the end of turn.
        finished: False when the token limit cut it.
    """

    text: str
    ids: tuple[int, ...]
    finished: bool


def batch_of(subject: Subject, sequences: Sequence[Sequence[int]]) -> Batch:
    """Pad sequences for the subject's tokenizer and device."""
    pad_id = subject.tokenizer.pad_token_id
    return pad(sequences, 0 if pad_id is None else int(pad_id), subject.model.device)


def run_decoder(subject: Subject, batch: Batch) -> None:
    """One pass through the blocks without the unembedding, for its hooks' sake."""
    decoder: nn.Module = subject.model.base_model
    with torch.inference_mode():
        decoder(**_inputs(decoder, batch), use_cache=False)


def last_logits(model: PreTrainedModel, batch: Batch, keep: int = 1) -> Tensor:
    """Logits [batch, keep, vocabulary] of the last `keep` positions, in float32.

    Differentiable when gradients are enabled, so that a search may use it.
    """
    logits = model(**model_inputs(model, batch, keep=keep), use_cache=False).logits
    result: Tensor = logits[:, -keep:].float()
    return result


def model_inputs(model: PreTrainedModel, batch: Batch, *, keep: int) -> dict[str, Any]:
    """The arguments of a forward pass that computes the logits of the last `keep` positions, or more."""
    inputs: dict[str, Any] = dict(_inputs(model, batch))
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        inputs["logits_to_keep"] = keep
    return inputs


def first_token_logprobs(
    subject: Subject, sequences: Sequence[Sequence[int]], *, title: str, progress: Progress = SILENT
) -> Tensor:
    """Log-probabilities [n, vocabulary] of the first token of the answer, float32 on the CPU."""

    def work(rows: list[int]) -> list[Tensor]:
        with torch.inference_mode():
            logits = last_logits(subject.model, batch_of(subject, [sequences[i] for i in rows]))[:, 0]
        return list(logits.log_softmax(dim=-1).cpu())

    rows = run_batched(sequences, work, device=subject.model.device, title=title, progress=progress)
    return torch.stack(rows)


def complete(
    subject: Subject,
    sequences: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    title: str = "complete",
    progress: Progress = SILENT,
) -> list[Completion]:
    """Greedy completions of each sequence, in order."""

    def work(rows: list[int]) -> list[Completion]:
        batch = batch_of(subject, [sequences[i] for i in rows])
        output = greedy(subject, batch.ids, batch.mask, max_new_tokens).sequences
        return [completion_of(subject, row) for row in output[:, batch.ids.shape[1] :].tolist()]

    return run_batched(
        sequences,
        work,
        device=subject.model.device,
        extra_tokens=max_new_tokens,
        title=title,
        progress=progress,
    )


def greedy(subject: Subject, ids: Tensor, mask: Tensor, max_new_tokens: int, cache: Cache | None = None) -> Any:  # noqa: ANN401 - transformers does not type its generation mixin
    """What `generate` returns (`sequences`, `past_key_values`) for left-padded rows, decoded greedily.

    It computes the logits of the last position alone, whatever the length of the prompts.

    Args:
        subject: the model.
        ids: [batch, tokens].
        mask: [batch, tokens].
        max_new_tokens: most tokens to add.
        cache: of all tokens but the last, as an earlier call returned it.
    """
    generator: Any = subject.model
    taken = {} if cache is None else {"past_key_values": cache}
    with torch.inference_mode():
        return generator.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            repetition_penalty=1.0,  # some checkpoints ship another, which would distort what is measured
            pad_token_id=subject.tokenizer.pad_token_id,
            return_dict_in_generate=True,
            **taken,
        )


def end_of_turn(subject: Subject) -> frozenset[int]:
    """The token ids that end an answer."""
    ids = subject.model.generation_config.eos_token_id
    known = {subject.tokenizer.eos_token_id} if ids is None else set(ids if isinstance(ids, list) else [ids])
    return frozenset(int(i) for i in known if i is not None)


def completion_of(subject: Subject, ids: list[int]) -> Completion:
    """A completion from generated token ids, cut after the end of turn."""
    stops = end_of_turn(subject)
    end = next((place + 1 for place, token in enumerate(ids) if token in stops), None)
    kept = ids[:end]
    text = subject.tokenizer.decode(kept, skip_special_tokens=True)
    return Completion(str(text), tuple(kept), end is not None)


def _inputs(module: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """The arguments of a forward pass; models without learned or rotary positions take no `position_ids`."""
    inputs = {"input_ids": batch.ids, "attention_mask": batch.mask}
    if "position_ids" in inspect.signature(module.forward).parameters:
        inputs["position_ids"] = batch.position_ids
    return inputs
