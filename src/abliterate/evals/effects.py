"""What a candidate direction does to the first token of an answer: bypass, induce and KL (methods.md 2.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from abliterate.anatomy.load import Subject
from abliterate.capture.contrast import refusal_score
from abliterate.capture.forward import first_token_logprobs
from abliterate.directions.direction import Direction
from abliterate.directions.select import Effects, Screened
from abliterate.edits.edit import Ablate, Add
from abliterate.edits.hooks import edited


@dataclass(frozen=True)
class EffectScorer:
    """Measures candidate directions on the select prompts of one model.

    Attributes:
        subject: the unedited model.
        refused: token ids of prompts that it refuses.
        answered: token ids of prompts that it answers, to add the direction on.
        harmless: token ids of prompts that it answers, for the KL; more of them, because a few make most of it.
        openings: token ids that open its refusals.
        baseline: first-token log-probabilities [n, vocabulary] of the unedited model on `harmless`.
    """

    subject: Subject
    refused: Sequence[Sequence[int]]
    answered: Sequence[Sequence[int]]
    harmless: Sequence[Sequence[int]]
    openings: Sequence[int]
    baseline: Tensor

    def screen(self, direction: Direction, limit: int) -> Screened:
        """Bypass and typical KL with the direction ablated, on the first `limit` prompts of each side."""
        bypass, kl = self._ablated(direction, limit)
        return Screened(float(bypass.mean()), float(typical(kl)))

    def effects(self, direction: Direction) -> Effects:
        """All three measurements, on all prompts; the KL is the plain mean."""
        with edited(self.subject, Add(direction)):
            added = first_token_logprobs(self.subject, self.answered, title="induce")
        bypass, kl = self._ablated(direction, None)
        return Effects(float(bypass.mean()), float(refusal_score(added, self.openings).mean()), float(kl.mean()))

    def _ablated(self, direction: Direction, limit: int | None) -> tuple[Tensor, Tensor]:
        """Refusal score [n] of refused prompts and KL [m] on harmless ones, with the direction ablated."""
        refused, harmless = self.refused[:limit], self.harmless[:limit]
        with edited(self.subject, Ablate(direction)):
            logprobs = first_token_logprobs(self.subject, [*refused, *harmless], title="ablated")
        score = refusal_score(logprobs[: len(refused)], self.openings)
        return score, kl_divergence(self.baseline[:limit], logprobs[len(refused) :])


def typical(values: Tensor) -> Tensor:
    """Mean [] of values [n] without their largest quarter: on a few prompts, one of a heavy tail would be the mean."""
    return values.sort().values[: len(values) - len(values) // 4].mean()


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) in nats over the last axis of two log-probability tensors, in float64; never below zero."""
    p, q = p.double(), q.double()
    return (p.exp() * (p - q)).sum(dim=-1).clamp_min(0.0)
