"""Halves gathered in one pass are the halves of the definition, and steady directions are told from noise."""

import pytest
import torch

from abliterate.capture.moments import Moments
from abliterate.directions.estimators import shuffled
from abliterate.directions.stability import Halves, stability

POSITIONS, LAYERS, WIDTH = 2, 3, 16


def gather(x, seeds, size=7):
    halves, moments = Halves(len(x), seeds), Moments.empty(*x.shape[1:])
    order = list(range(len(x)))[::-1]
    for start in range(0, len(x), size):
        rows = order[start : start + size]
        halves.update(rows, x[rows])
        moments.update(x[rows])
    return halves, moments


def draw(n, shift=0.0, seed=0):
    noise = torch.randn(n, POSITIONS, LAYERS, WIDTH, generator=torch.Generator().manual_seed(seed))
    noise[:, :, 1:, 0] += shift
    return noise


def test_means_are_those_of_each_half():
    x = draw(20)
    halves, moments = gather(x, [3, 4])
    for row, first, second in zip(halves.first.bool(), *halves.means(moments), strict=True):
        assert row.sum() == 10
        torch.testing.assert_close(first, x[row].double().mean(0))
        torch.testing.assert_close(second, x[~row].double().mean(0))
    assert not torch.equal(halves.first[0], halves.first[1])


def test_a_real_difference_is_steady_and_noise_is_not():
    found = stability(gather(draw(60, 8.0), range(6)), gather(draw(61, seed=1), range(6)), (-2, -1))
    assert [(s.position, s.layer) for s in found] == [(p, layer) for p in (-2, -1) for layer in range(LAYERS)]
    for s in found:
        assert s.least <= s.cosine
        assert s.least > 0.9 if s.layer else s.cosine < 0.6


def test_a_place_where_nothing_differs_has_cosine_zero():
    same = torch.ones(8, 1, 1, WIDTH)
    (found,) = stability(gather(same, [0]), gather(same, [0]), (-1,))
    assert found.cosine == 0


def test_one_prompt_has_no_halves():
    with pytest.raises(ValueError, match="two prompts"):
        Halves(1, [0])


def test_shuffled_sides_hold_as_many_of_either_label():
    refused, answered = [f"r{i}" for i in range(9)], [f"a{i}" for i in range(6)]
    first, second = shuffled(refused, answered, seed=0)
    for side in (first, second):
        assert [sum(text.startswith(label) for text in side) for label in "ra"] == [4, 3]
    assert not set(first) & set(second)
    assert shuffled(refused, answered, seed=0) == (first, second) != shuffled(refused, answered, seed=1)
