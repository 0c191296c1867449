"""Estimators of a direction from the moments of two sides. Each returns raw vectors; nothing here knows a model."""

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
