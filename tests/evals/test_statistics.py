"""Wilson intervals against published values, and their shape."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abliterate.evals.statistics import Rate, wilson


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
