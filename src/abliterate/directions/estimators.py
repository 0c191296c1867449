"""Estimators of a direction from the moments of two sides. Each returns raw vectors; nothing here knows a model."""

from collections.abc import Sequence

import torch
from torch import Tensor

from abliterate.capture.moments import Moments


def difference_of_means(refused: Moments, answered: Moments) -> Tensor:
    """mean(refused) - mean(answered), [positions, L, d] in float64, with its norm kept.

    Source: Arditi et al. 2024 (arXiv:2406.11717), eq. 3 to 5; methods.md 2.1.
    """
    return refused.mean - answered.mean


def random_vector(like: Tensor, *, seed: int) -> Tensor:
    """A vector of uniformly random direction with the norm of `like` [d]: the control for every claim."""
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(like.shape, generator=generator, dtype=torch.float64)
    result: Tensor = vector * (like.double().norm() / vector.norm())
    return result


def shuffled(refused: Sequence[str], answered: Sequence[str], *, seed: int) -> tuple[list[str], list[str]]:
    """Two sides for a control whose labels mean nothing: each is a random half of either label.

    Halving each label keeps the real difference out. A plain permutation leaves some of it by chance, and as the
    labels are what differs most, an ablation along what is left would remove it all.

    Args:
        refused: prompts of one label, at least two.
        answered: prompts of the other, at least two.
        seed: of the halving.
    """
    generator = torch.Generator().manual_seed(seed)
    sides: tuple[list[str], list[str]] = ([], [])
    for texts in (refused, answered):
        order = torch.randperm(len(texts), generator=generator).tolist()
        for number, index in enumerate(order[: len(texts) - len(texts) % 2]):
            sides[number % 2].append(texts[index])
    return sides
