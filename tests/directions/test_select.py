"""The choice among candidates: thresholds, screening, and what is said when none passes."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abliterate.directions.select import Candidate, Effects, Screened, Thresholds, select
from abliterate.errors import NoDirectionFound

LAYERS = 10
GOOD = Effects(bypass=-5.0, induce=2.0, kl=0.05)


def candidates(*places):
    return [Candidate(position, layer, 1.0, 0.9) for position, layer in places]


def run(effects, *, screened=None, finalists=3, **thresholds):
    """Select among {(position, layer): effects}; `screened` gives the cheap (bypass, KL) of each."""
    scored = []

    def score(some):
        scored.extend((c.position, c.layer) for c in some)
        return [effects[c.position, c.layer] for c in some]

    def screen(some):
        return [Screened(*screened[c.position, c.layer]) for c in some]

    chosen, table = select(
        candidates(*effects),
        layers=LAYERS,
        thresholds=Thresholds(**thresholds),
        finalists=finalists,
        screen=screen if screened else None,
        score=score,
    )
    verdicts = {(c.position, c.layer): c.verdict for c in table}
    assert list(verdicts) == list(effects), "the table keeps the order"
    assert verdicts[chosen.position, chosen.layer] == "chosen"
    return (chosen.position, chosen.layer), verdicts, scored


def test_the_lowest_bypass_wins():
    effects = {(-1, 2): Effects(-3.0, 1.0, 0.01), (-1, 3): Effects(-7.0, 0.1, 0.09), (-2, 3): Effects(-5.0, 9.0, 0.0)}
    chosen, verdicts, _ = run(effects)
    assert chosen == (-1, 3)
    assert verdicts[-1, 2] == verdicts[-2, 3] == "passed"


@pytest.mark.parametrize(
    ("place", "effects", "verdict"),
    [
        ((-1, 8), Effects(-9.0, 2.0, 0.05), "too deep"),
        ((-1, 9), Effects(-9.0, 2.0, 0.05), "too deep"),
        ((-1, 3), Effects(-9.0, 2.0, 0.1001), "KL 0.100 > 0.1"),
        ((-1, 3), Effects(-9.0, -0.01, 0.05), "induce -0.01 < 0"),
        ((-1, 3), Effects(math.nan, 2.0, 0.05), "not a number"),
        ((-1, 3), Effects(-9.0, math.nan, 0.05), "not a number"),
        ((-1, 3), Effects(-9.0, 2.0, math.nan), "not a number"),
    ],
)
def test_a_better_one_that_breaks_a_threshold_is_passed_over(place, effects, verdict):
    chosen, verdicts, _ = run({place: effects, (-1, 7): GOOD})
    assert chosen == (-1, 7), "layer 7 of 10 is the last that may be chosen"
    assert verdicts[place] == verdict


@pytest.mark.parametrize("effects", [Effects(-9.0, 2.0, 0.1), Effects(-9.0, 0.0, 0.05)])
def test_the_thresholds_themselves_still_pass(effects):
    assert run({(-1, 3): effects, (-1, 4): GOOD})[0] == (-1, 3)


def test_thresholds_can_be_set():
    wild = Effects(-9.0, -4.0, 3.0)
    assert run({(-1, 9): wild, (-1, 4): GOOD}, kl=5.0, induce=-5.0, depth=1.0)[0] == (-1, 9)


def test_what_is_too_deep_is_not_measured():
    assert run({(-1, 9): GOOD, (-1, 1): GOOD})[2] == [(-1, 1)]


def test_screening_sends_the_best_to_the_full_measurement():
    places = [(-1, layer) for layer in range(6)]
    bypasses = (0.0, -4.0, math.nan, -2.0, -9.0, 5.0)
    screened = {place: (bypass, 0.01) for place, bypass in zip(places, bypasses, strict=True)}
    effects = dict.fromkeys(places, GOOD) | {(-1, 3): Effects(-6.0, 2.0, 0.05)}
    chosen, verdicts, scored = run(effects, screened=screened, finalists=3)
    assert scored == [(-1, 4), (-1, 1), (-1, 3)]
    assert chosen == (-1, 3), "the full measurement decides, not the screening"
    assert [verdicts[place] for place in ((-1, 0), (-1, 2), (-1, 5))] == ["screened out"] * 3


def test_the_screening_prefers_what_leaves_the_model_alone():
    """The lowest bypass of all is that of a direction without which the model says nothing sensible."""
    places = [(-1, layer) for layer in range(4)]
    screened = dict(zip(places, ((-13.0, 9.0), (-2.0, 0.01), (-1.0, 0.2), (-9.0, math.nan)), strict=True))
    assert run(dict.fromkeys(places, GOOD), screened=screened, finalists=2)[2] == [(-1, 1), (-1, 2)]


def test_without_screening_everything_is_measured():
    places = [(-p, layer) for p in (1, 2) for layer in range(8)]
    assert run(dict.fromkeys(places, GOOD), finalists=1)[2] == places


def test_nothing_that_passes_is_an_error_that_shows_the_nearest():
    effects = {
        (-1, 1): Effects(-2.0, 1.0, 0.3),
        (-2, 2): Effects(-8.0, 1.0, 0.25),
        (-3, 3): Effects(-4.0, -3.0, 0.01),
        (-4, 4): Effects(3.0, -3.0, 0.01),
        (-5, 5): Effects(math.nan, 1.0, 0.01),
    }
    with pytest.raises(NoDirectionFound) as caught:
        run(effects)
    assert caught.value.problem == (
        "none of 5 candidate directions passes; nearest: position -2 layer 2 (bypass -8.00, KL 0.250 > 0.1);"
        " position -1 layer 1 (bypass -2.00, KL 0.300 > 0.1); position -3 layer 3 (bypass -4.00, induce -3.00 < 0)"
    )
    assert "selection.kl_limit" in caught.value.remedy


@pytest.mark.parametrize(
    "effects", [{}, {(-1, 9): GOOD}, {(-1, 1): Effects(math.nan, 1.0, 0.0)}], ids=["none", "too deep", "nan"]
)
def test_nothing_to_show_is_an_error_too(effects):
    with pytest.raises(NoDirectionFound, match=f"none of {len(effects)} candidate directions passes"):
        run(effects)


numbers = st.one_of(st.floats(-20, 20), st.just(math.nan))
tables = st.dictionaries(
    st.tuples(st.integers(-4, -1), st.integers(0, LAYERS - 1)),
    st.builds(Effects, numbers, numbers, st.one_of(st.floats(0, 0.3), st.just(math.nan))),
)


@given(tables)
def test_the_choice_is_the_paper_s(effects):
    """Written as one expression: of those with layer < 0.8 L, KL <= 0.1 and induce >= 0, the lowest bypass."""
    allowed = {
        place: e.bypass
        for place, e in effects.items()
        if place[1] < 8 and e.kl <= 0.1 and e.induce >= 0 and not math.isnan(e.bypass)
    }
    if not allowed:
        with pytest.raises(NoDirectionFound):
            run(effects)
    else:
        assert allowed[run(effects)[0]] == min(allowed.values())


def test_what_does_not_tell_the_sides_apart_is_not_measured():
    effects = {(-1, 2): Effects(-9.0, 1.0, 0.01), (-1, 3): GOOD}
    apart = {(-1, 2): 0.62, (-1, 3): 0.97}
    some = [dataclasses.replace(c, separation=apart[c.position, c.layer]) for c in candidates(*effects)]
    measured = []

    def score(those):
        measured.extend((c.position, c.layer) for c in those)
        return [effects[c.position, c.layer] for c in those]

    chosen, table = select(
        some, layers=LAYERS, thresholds=Thresholds(separation=0.9), finalists=3, screen=None, score=score
    )
    assert (chosen.position, chosen.layer) == (-1, 3) and measured == [(-1, 3)]
    assert table[0].verdict == "AUROC 0.62 < 0.9"
