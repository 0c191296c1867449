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
        answered: token ids of prompts that it answers.
        openings: token ids that open its refusals.
        baseline: first-token log-probabilities [n, vocabulary] of the unedited model on `answered`.
    """

    subject: Subject
    refused: Sequence[Sequence[int]]
    answered: Sequence[Sequence[int]]
    openings: Sequence[int]
    baseline: Tensor

    def screen(self, direction: Direction, limit: int | None = None) -> Screened:
        """Bypass and KL with the direction ablated, on the first `limit` prompts of each side."""
        refused, answered = self.refused[:limit], self.answered[:limit]
        with edited(self.subject, Ablate(direction)):
            logprobs = first_token_logprobs(self.subject, [*refused, *answered], title="ablated")
        bypass = refusal_score(logprobs[: len(refused)], self.openings)
        kl = kl_divergence(self.baseline[:limit], logprobs[len(refused) :])
        return Screened(float(bypass.mean()), float(kl.mean()))

    def effects(self, direction: Direction) -> Effects:
        """All three measurements, on all prompts."""
        with edited(self.subject, Add(direction)):
            added = first_token_logprobs(self.subject, self.answered, title="induce")
        ablated = self.screen(direction)
        return Effects(ablated.bypass, float(refusal_score(added, self.openings).mean()), ablated.kl)


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) in nats over the last axis of two log-probability tensors, in float64; never below zero."""
    p, q = p.double(), q.double()
    return (p.exp() * (p - q)).sum(dim=-1).clamp_min(0.0)
