"""What a candidate direction does to the first token of an answer: bypass, induce and KL (methods.md 2.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from abliterate.anatomy.load import Subject
from abliterate.capture.contrast import refusal_score
from abliterate.capture.forward import first_token_logprobs
from abliterate.directions.direction import Direction
from abliterate.directions.select import Effects
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

    def bypass(self, direction: Direction, limit: int | None = None) -> float:
        """Mean refusal score of the (first `limit`) refused prompts with the direction ablated."""
        with edited(self.subject, Ablate(direction)):
            logprobs = first_token_logprobs(self.subject, self.refused[:limit], title="bypass")
        return float(refusal_score(logprobs, self.openings).mean())

    def effects(self, direction: Direction) -> Effects:
        """All three measurements, on all prompts."""
        with edited(self.subject, Ablate(direction)):
            ablated = first_token_logprobs(self.subject, self.answered, title="kl")
        with edited(self.subject, Add(direction)):
            added = first_token_logprobs(self.subject, self.answered, title="induce")
        return Effects(
            self.bypass(direction),
            float(refusal_score(added, self.openings).mean()),
            float(kl_divergence(self.baseline, ablated).mean()),
        )


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) in nats over the last axis of two log-probability tensors, in float64; never below zero."""
    p, q = p.double(), q.double()
    return (p.exp() * (p - q)).sum(dim=-1).clamp_min(0.0)
