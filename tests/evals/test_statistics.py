"""Intervals and tests against published values, and their shape."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abliterate.evals.statistics import (
    Rate,
    detectable,
    mcnemar,
    newcombe,
    newcombe_paired,
    paired_bootstrap,
    power,
    wilson,
)


@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    [
        (3, 100, 0.010, 0.085),
        (0, 100, 0.000, 0.037),
        (100, 100, 0.963, 1.000),
        (50, 100, 0.404, 0.596),
        (0, 10, 0.000, 0.278),
        (81, 263, 0.2553, 0.3662),  # Newcombe, Statistics in Medicine 17 (1998), table I
        (15, 148, 0.0624, 0.1605),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_known_values(count, n, low, high):
    rate = wilson(count, n)
    assert (rate.low, rate.high) == (pytest.approx(low, abs=5e-4), pytest.approx(high, abs=5e-4))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_holds_its_rate_and_mirrors(pair):
    count, n = pair
    rate, mirror = wilson(count, n), wilson(n - count, n)
    assert 0 <= rate.low <= rate.rate <= rate.high <= 1
    assert rate.low == pytest.approx(1 - mirror.high, abs=1e-9)


def test_more_confidence_is_wider():
    assert wilson(3, 100, 0.99).high > wilson(3, 100).high


def test_no_data_says_so():
    nothing = wilson(0, 0)
    assert nothing == Rate(0, 0, 0.0, 1.0)
    assert nothing.rate == 0.0
    assert str(nothing) == "0/0 = no data"


def test_format():
    assert wilson(3, 96).format() == "3/96 = 3.1 % [1.1, 8.8]"


@pytest.mark.parametrize(("count", "n", "confidence"), [(4, 3, 0.95), (-1, 3, 0.95), (0, -1, 0.95), (1, 3, 1.0)])
def test_impossible_numbers(count, n, confidence):
    with pytest.raises(ValueError, match=r"must be"):
        wilson(count, n, confidence)


# --- differences ---


def flags(both, lost, gained, neither):
    before = [True] * (both + lost) + [False] * (gained + neither)
    after = [True] * both + [False] * lost + [True] * gained + [False] * neither
    return before, after


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [  # Newcombe, Statistics in Medicine 17 (1998) 873-890, table II, method 10
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 20), 0.6791, 1.0000),
        ((10, 10), (0, 10), 0.6075, 1.0000),
    ],
)
def test_newcombe_of_independent_rates(first, second, low, high):
    found = newcombe(wilson(*second), wilson(*first))
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-4), pytest.approx(high, abs=5e-4))
    assert (found.n, found.n_second, found.seed) == (second[1], first[1], None)


def test_newcombe_of_pairs_that_are_independent_is_the_other_one():
    before, after = flags(25, 25, 25, 25)
    paired, other = newcombe_paired(before, after), newcombe(wilson(50, 100), wilson(50, 100))
    assert (paired.low, paired.high) == (pytest.approx(other.low), pytest.approx(other.high))


def test_pairs_that_go_together_narrow_the_interval_and_mirror():
    before, after = flags(40, 10, 2, 48)
    paired, other = newcombe_paired(before, after), newcombe(wilson(50, 100), wilson(42, 100))
    assert other.low < paired.low < paired.value < paired.high < other.high
    assert paired.value == pytest.approx(-0.08)
    mirror = newcombe_paired(after, before)
    assert (mirror.low, mirror.high) == (pytest.approx(-paired.high), pytest.approx(-paired.low))


def test_the_paired_interval_covers_what_it_should():
    import numpy

    draw = numpy.random.default_rng(0)
    shares, truth = [0.5, 0.2, 0.05, 0.25], 0.05 - 0.2
    hits = 0
    for both, lost, gained, neither in draw.multinomial(60, shares, size=400):
        found = newcombe_paired(*flags(both, lost, gained, neither))
        hits += found.low <= truth <= found.high
    assert 0.92 <= hits / 400 <= 0.99


def test_differences_of_nothing_say_nothing():
    assert newcombe(wilson(0, 0), wilson(3, 3)).tells is False
    nothing = newcombe_paired([], [])
    assert (nothing.low, nothing.high) == (-1, 1)


def test_a_difference_keeps_its_interval_at_the_ends():
    same = newcombe_paired([True] * 20, [True] * 20)
    assert same.value == 0 and same.low < 0 < same.high
    assert newcombe(wilson(0, 20), wilson(20, 20)).high == 1


def test_mcnemar_against_known_values():
    # Sign test: 6 of 6 one way is 2 / 64; 10 against 2 is 0.0386 (Siegel's table, two-sided).
    assert mcnemar(*flags(3, 6, 0, 1)).p == pytest.approx(2 / 64)
    ten = mcnemar(*flags(5, 10, 2, 5))
    assert (ten.n, ten.lost, ten.gained) == (22, 10, 2)
    assert ten.p == pytest.approx(158 / 4096)
    assert mcnemar(*flags(5, 0, 0, 5)).p == 1
    assert mcnemar(*flags(0, 5, 0, 1000)).p > 0.05


def test_the_paired_bootstrap_is_seeded_and_about_pairs():
    before = [float(i) for i in range(50)]
    after = [x + 1 + (i % 3 - 1) / 10 for i, x in enumerate(before)]
    found = paired_bootstrap(before, after, seed=3)
    assert found == paired_bootstrap(before, after, seed=3) != paired_bootstrap(before, after, seed=4)
    assert found.tells and 0.9 < found.low < 1 < found.high < 1.1  # the spread of `before` plays no part
    assert (found.n, found.seed) == (50, 3)
    assert "n = 50, seed 3" in found.format()
    # Normal theory: sd of the differences / sqrt(n) = 0.0115.
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.0115, rel=0.15)


@pytest.mark.parametrize(
    ("n", "first", "second", "expected"),
    [(388, 0.5, 0.6, 0.80), (519, 0.5, 0.6, 0.90), (199, 0.1, 0.2, 0.80), (100, 0.3, 0.3, 0.05), (0, 0.1, 0.9, 0)],
)
def test_power_against_tables(n, first, second, expected):
    assert power(n, first, second) == pytest.approx(expected, abs=0.01)


def test_what_can_be_told_apart():
    assert detectable(388, 0.5) == pytest.approx(0.1, abs=1e-3)
    assert detectable(100, 0.0) < detectable(20, 0.0) < 0.5
    assert detectable(100, 1.0) == pytest.approx(detectable(100, 0.0), abs=1e-5)
    assert detectable(1, 0.5) is None


@pytest.mark.parametrize("test", [mcnemar, newcombe_paired])
def test_pairs_must_pair(test):
    with pytest.raises(ValueError, match="zip"):
        test([True], [])
