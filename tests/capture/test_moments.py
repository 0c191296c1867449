"""Streaming moments equal the moments of everything at once, however it was cut into batches."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from abliterate.capture.moments import Moments

P, L, D = 2, 3, 4


def data(n, seed=0, scale=1.0, offset=0.0):
    generator = torch.Generator().manual_seed(seed)
    return offset + scale * torch.randn(n, P, L, D, generator=generator, dtype=torch.float64)


def gathered(*batches, covariance=True):
    moments = Moments.empty(P, L, D, covariance=covariance)
    for batch in batches:
        moments.update(batch)
    return moments


cuts = st.lists(st.integers(1, 7), min_size=1, max_size=8)
seeds = st.integers(0, 1000)
# A large common offset is where a sum of squares would lose every digit.
offsets = st.sampled_from([0.0, 1.0, 1e6])


def close(ours, x, offset):
    """Within rounding: float64 keeps 1e-16 of the largest number that appears, the offset."""
    atol = 1e-13 * (1 + offset)
    torch.testing.assert_close(ours.mean, x.mean(dim=0), rtol=1e-12, atol=atol)
    centred = x - x.mean(dim=0)
    exact = torch.einsum("nplc,npld->plcd", centred, centred) / max(len(x) - 1, 1)
    torch.testing.assert_close(ours.covariance, exact, rtol=1e-9, atol=1e3 * atol)


@given(cuts, seeds, offsets)
def test_streaming_equals_all_at_once(sizes, seed, offset):
    x = data(sum(sizes), seed, offset=offset)
    ours = gathered(*x.split(sizes))
    assert ours.count == len(x)
    close(ours, x, offset)


@given(cuts, cuts, seeds, offsets)
def test_merging_equals_gathering_together(left, right, seed, offset):
    x = data(sum(left) + sum(right), seed, offset=offset)
    ours = gathered(*x[: sum(left)].split(left))
    ours.merge(gathered(*x[sum(left) :].split(right)))
    assert ours.count == len(x)
    close(ours, x, offset)


@given(seeds)
def test_merging_nothing_changes_nothing(seed):
    x = data(5, seed)
    for ours in (gathered(x), gathered()):
        before = (ours.count, ours.mean.clone(), ours.covariance.clone())
        ours.merge(gathered())
        assert ours.count == before[0]
        assert torch.equal(ours.mean, before[1]) and torch.equal(ours.covariance, before[2])
    empty = gathered()
    empty.merge(gathered(x))
    close(empty, x, 0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float64(dtype):
    """To the last digits of float64, where a sum in the dtype itself would keep 3 to 7."""
    x = (data(256) * 8).to(dtype)
    ours = gathered(*x.split(20))
    assert ours.mean.dtype == torch.float64
    torch.testing.assert_close(ours.mean, x.double().mean(dim=0), rtol=1e-13, atol=1e-14)


def test_small_differences_on_a_large_mean_are_kept():
    """Where float32 would keep 3 digits of 1e5 + 1e-2."""
    x = data(64, scale=1e-2, offset=1e5)
    close(gathered(*x.split(8)), x, 1e5)


def test_covariance_has_n_minus_1_below():
    x = data(9)
    torch.testing.assert_close(gathered(x).covariance[1, 2], torch.cov(x[:, 1, 2].T))


def test_without_covariance_none_is_gathered():
    ours = gathered(data(3), covariance=False)
    assert ours.scatter is None and ours.covariance is None


def test_one_vector_has_no_spread():
    assert gathered(data(1)).covariance.abs().max() == 0
