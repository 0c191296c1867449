"""Before and after on the same prompts, and what so few prompts cannot show."""

import pytest

from abliterate.evals.changes import change, shift
from abliterate.evals.statistics import mcnemar, newcombe_paired

NAMES = ("unedited", "edited")


def test_a_change_that_is_plain_needs_no_apology():
    before, after = [True] * 40 + [False] * 10, [False] * 50
    found = change("refusals", NAMES, before, after)
    assert found.test == mcnemar(before, after) and found.test.lost == 40
    assert found.difference == newcombe_paired(before, after)
    assert found.difference.tells and found.weakness == ""
    assert "n = 50" in found.format() and "McNemar p = 1.8e-12" in found.format()


@pytest.mark.parametrize(("n", "said"), [(4, "even the largest possible change"), (40, "a change of less than")])
def test_too_few_prompts_are_said_to_be_too_few(n, said):
    half = [True] * (n // 2) + [False] * (n // 2)
    found = change("refusals", NAMES, half, half)
    assert not found.difference.tells and found.test.p == 1
    assert said in found.weakness and f"{n} prompts" in found.weakness and "50 %" in found.weakness


def test_nothing_to_compare_is_no_change():
    assert change("refusals", NAMES, [], []) is None


def test_a_shift_is_paired_and_says_how_it_was_drawn():
    before = [10.0 * i for i in range(30)]
    found = shift("tokens", NAMES, before, [x + 1 + i % 2 for i, x in enumerate(before)], seed=7)
    assert found.difference.value == pytest.approx(1.5)
    assert 1 < found.difference.low < found.difference.high < 2  # the spread between prompts does not blur it
    assert (found.difference.n, found.difference.seed) == (30, 7)
