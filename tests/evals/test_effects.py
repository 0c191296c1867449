"""The numbers a candidate direction is chosen by."""

import pytest
import torch

from abliterate.evals.effects import kl_divergence, typical


def test_one_prompt_of_a_heavy_tail_does_not_decide_what_is_typical():
    values = torch.tensor([0.03, 1.59, 0.04, 0.06, 1.29, 0.03, 0.01, 0.35])
    assert typical(values) == pytest.approx((0.03 + 0.04 + 0.06 + 0.03 + 0.01 + 0.35) / 6)
    assert typical(values[:1]) == values[0]


def test_kl_is_that_of_the_definition():
    p, q = torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([[0.25, 0.25, 0.5]]).log()
    assert kl_divergence(p, q).item() == pytest.approx(0.25 * torch.tensor(2.0).log().item())
    assert kl_divergence(p, p).item() == 0.0
