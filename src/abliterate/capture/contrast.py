"""The contrast a direction is fitted to: prompts the model itself refuses against prompts it itself answers."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from abliterate.capture.prompts import Label
from abliterate.errors import ContrastTooSmall


@dataclass(frozen=True)
class Contrast:
    """Indices into the observed prompts of each label, of those that behaved as labelled."""

    refused: tuple[int, ...]
    answered: tuple[int, ...]


def form_contrast(
    refuses: Sequence[bool],
    answers: Sequence[bool],
    *,
    minimum: int,
    use: str = "fit",
) -> Contrast:
    """Keep the prompts on which the model does what the label says.

    Args:
        refuses: for each prompt labelled `refused`, whether the model's completion declines.
        answers: for each prompt labelled `answered`, whether it answers.
        minimum: fewest prompts a side may have.
        use: what the prompts are for, for the message.

    Raises:
        ContrastTooSmall: a side is smaller than `minimum`; the message says which and why.
    """
    contrast = Contrast(
        tuple(i for i, yes in enumerate(refuses) if yes), tuple(i for i, yes in enumerate(answers) if yes)
    )
    for label, kept, seen, verb in (
        (Label.REFUSED, contrast.refused, refuses, "refuses"),
        (Label.ANSWERED, contrast.answered, answers, "answers"),
    ):
        if len(kept) < minimum:
            raise ContrastTooSmall(
                f"the model {verb} only {len(kept)} of {len(seen)} {use} prompts"
                f" labelled {label}; {minimum} are needed",
                f"give more prompts that this model {verb} with --{label}, or lower --set observe.minimum"
                + ("; a model that hardly refuses holds no refusal direction to find" if label == "refused" else ""),
            )
    return contrast


@dataclass(frozen=True)
class Openings:
    """The tokens with which this model opens a refusal, learnt from its own completions.

    Attributes:
        token_ids: ids of the opening tokens.
        texts: the same, decoded.
        mass_refused: mean probability of these tokens where it refuses.
        mass_answered: the same where it answers.
        separation: AUROC of that probability between the two.
        score_refused: mean refusal score where it refuses, in log-odds.
        score_answered: the same where it answers.
    """

    token_ids: tuple[int, ...]
    texts: tuple[str, ...]
    mass_refused: float
    mass_answered: float
    separation: float
    score_refused: float
    score_answered: float

    def level(self, share: float) -> float:
        """The refusal score that lies this share of the way from where it answers to where it refuses."""
        return self.score_answered + share * (self.score_refused - self.score_answered)


def learn_openings(
    tokenizer: PreTrainedTokenizerBase,
    refused: Tensor,
    answered: Tensor,
    *,
    share: float = 0.01,
    ratio: float = 3.0,
) -> Openings:
    """Choose the first tokens that are common in refusals and rare in answers.

    Args:
        tokenizer: to show the tokens.
        refused: first-token log-probabilities [n, vocabulary] on the prompts that the model refuses.
        answered: the same on the prompts that it answers.
        share: least mean probability among refusals.
        ratio: least ratio of the mean probabilities.

    Raises:
        ContrastTooSmall: no token tells refusals from answers.
    """
    mean_refused, mean_answered = refused.double().exp().mean(dim=0), answered.double().exp().mean(dim=0)
    chosen = ((mean_refused >= share) & (mean_refused >= ratio * mean_answered)).nonzero().flatten()
    if chosen.numel() == 0:
        raise ContrastTooSmall(
            "the model's refusals and answers begin with the same tokens",
            "give prompts whose refusals differ more plainly from its answers, or more of them",
        )
    chosen = chosen[mean_refused[chosen].argsort(descending=True)]
    mass_refused, mass_answered = (x[:, chosen].double().exp().sum(dim=1) for x in (refused, answered))
    ids = tuple(int(i) for i in chosen)
    return Openings(
        ids,
        tuple(str(tokenizer.decode([i])) for i in ids),
        float(mass_refused.mean()),
        float(mass_answered.mean()),
        float(auroc(mass_refused, mass_answered)),
        float(refusal_score(refused, ids).mean()),
        float(refusal_score(answered, ids).mean()),
    )


def refusal_score(logprobs: Tensor, token_ids: Sequence[int]) -> Tensor:
    """Log-odds [n] that an answer opens as a refusal: log(p + e) - log(1 - p + e), e = 1e-8 (Arditi et al. 2024).

    Args:
        logprobs: first-token log-probabilities [n, vocabulary].
        token_ids: the refusal openings.
    """
    p = logprobs[:, list(token_ids)].double().exp().sum(dim=1)
    return torch.log(p + 1e-8) - torch.log1p(-p.clamp_max(1.0) + 1e-8)


def auroc(positive: Tensor, negative: Tensor) -> Tensor:
    """Area under the ROC curve along the first axis: the chance that a positive exceeds a negative, ties half.

    Args:
        positive: [n, ...].
        negative: [m, ...].

    Returns:
        [...], float64.
    """
    above = (positive.unsqueeze(1) > negative.unsqueeze(0)).double()
    level = (positive.unsqueeze(1) == negative.unsqueeze(0)).double()
    return (above + level / 2).mean(dim=(0, 1))
