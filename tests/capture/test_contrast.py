"""The contrast, the openings of a refusal, and the two numbers that are read off them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from abliterate.capture.contrast import auroc, form_contrast, learn_openings, refusal_score
from abliterate.errors import ContrastTooSmall
from tests.toys import byte_tokenizer

# --- the contrast


def test_prompts_that_behave_as_labelled_are_kept():
    contrast = form_contrast([True, False, True], [True, True, False], minimum=2)
    assert (contrast.refused, contrast.answered) == ((0, 2), (0, 1))


@pytest.mark.parametrize(
    ("refuses", "answers", "message"),
    [
        (
            [True, False, False],
            [True, True],
            r"refuses only 1 of 3 select prompts labelled refused; 2 are needed.*--refused",
        ),
        (
            [True, True],
            [False, True],
            r"answers only 1 of 2 select prompts labelled answered; 2 are needed.*--answered",
        ),
        ([], [True, True], r"refuses only 0 of 0"),
    ],
)
def test_too_small_a_side_is_an_error_that_counts(refuses, answers, message):
    with pytest.raises(ContrastTooSmall, match=message):
        form_contrast(refuses, answers, minimum=2, use="select")


# --- openings


def distributions(*rows):
    """Log-probabilities over 8 tokens; what a row does not give is spread over the rest."""
    p = torch.zeros(len(rows), 8)
    for n, row in enumerate(rows):
        rest = (1 - sum(row.values())) / (8 - len(row))
        p[n] = torch.tensor([row.get(token, rest) for token in range(8)])
    return p.log()


def test_openings_are_common_in_refusals_and_rare_in_answers():
    refused = distributions({0: 0.7, 1: 0.2, 2: 0.05}, {0: 0.5, 1: 0.4, 2: 0.05})
    answered = distributions({0: 0.01, 1: 0.2, 2: 0.001}, {0: 0.03, 1: 0.2, 2: 0.001})
    openings = learn_openings(byte_tokenizer(), refused, answered)
    assert openings.token_ids == (0, 2), "the most common first; token 1 opens answers too"
    assert openings.mass_refused == pytest.approx(0.65)
    assert openings.mass_answered == pytest.approx(0.021)
    assert openings.separation == 1.0
    assert openings.score_refused > 0 > openings.score_answered
    assert openings.level(0.5) == pytest.approx((openings.score_refused + openings.score_answered) / 2)
    assert openings.texts == tuple(byte_tokenizer().decode([n]) for n in (0, 2))


def test_refusals_that_open_like_answers_are_an_error():
    same = distributions({0: 0.7}, {0: 0.6})
    with pytest.raises(ContrastTooSmall, match="begin with the same tokens"):
        learn_openings(byte_tokenizer(), same, same)


# --- the refusal score


@given(st.floats(0.0, 1.0))
def test_the_refusal_score_is_the_log_odds_of_the_openings(p):
    logprobs = torch.tensor([[p / 2, p / 2, 1 - p]], dtype=torch.float64).log()
    expected = math.log(p + 1e-8) - math.log(1 - p + 1e-8)
    assert float(refusal_score(logprobs, [0, 1])) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_the_refusal_score_is_finite_where_float32_rounds_above_one():
    logprobs = torch.tensor([[0.0, -30.0], [1e-6, -100.0], [-1e4, 0.0]])
    scores = refusal_score(logprobs, [0])
    assert scores.isfinite().all() and scores.dtype == torch.float64
    assert scores[0] == pytest.approx(18.4207, abs=1e-3) and scores[2] == pytest.approx(-18.4207, abs=1e-3)


def test_all_tokens_together_are_certain():
    logprobs = torch.randn(5, 300, generator=torch.Generator().manual_seed(0)).log_softmax(dim=-1)
    assert (refusal_score(logprobs, range(300)) > 14).all()


# --- AUROC

values = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


@given(values, values)
def test_auroc_is_the_chance_that_a_positive_exceeds_a_negative(positive, negative):
    wins = sum((p > n) + (p == n) / 2 for p in positive for n in negative)
    ours = auroc(torch.tensor(positive), torch.tensor(negative))
    assert float(ours) == pytest.approx(wins / (len(positive) * len(negative)))
    assert float(auroc(torch.tensor(negative), torch.tensor(positive))) == pytest.approx(1 - float(ours))


def test_auroc_keeps_the_other_axes():
    positive = torch.tensor([[[0.0, 2.0]], [[1.0, 2.0]]])
    negative = torch.tensor([[[0.0, 0.0]], [[2.0, 1.0]], [[5.0, 1.0]]])
    assert auroc(positive, negative).tolist() == [[pytest.approx(1.5 / 6), 1.0]]
