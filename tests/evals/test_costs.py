"""Loops, lengths and refusals from completions; perplexity against a loop over tokens."""

import math

import pytest
import torch

from abliterate.capture import batching
from abliterate.capture.forward import Completion
from abliterate.edits.edit import Ablate
from abliterate.edits.hooks import edited
from abliterate.errors import PromptsError
from abliterate.evals import costs as module
from abliterate.evals.costs import costs, perplexity, read_windows, window_losses
from abliterate.evals.outcome import Outcome
from tests.toys import direction

LOOP = "and then we go " * 20


def said(text, tokens, finished=True):
    return Completion(text, tuple(range(tokens)), finished)


def test_what_completions_show():
    refused = [("Name a sin.", said("I can't help with that.", 6)), ("Name another.", said(LOOP, 80, False))]
    answered = [("Name a fish.", said("The trout.", 3)), ("Name a bird.", said("I'm sorry, but I can't.", 7, False))]
    found = costs(refused, answered, [Outcome.COMPLIED, Outcome.REFUSED], seed=3)
    assert (found.loops.count, found.loops.n) == (1, 4)
    assert (found.length.mean, found.length.n, found.length.seed) == (5.0, 2, 3)
    assert (found.cut.count, found.cut.n) == (1, 2)
    assert (found.harmless_refusals.count, found.harmless_refusals.n) == (1, 2)
    assert found.perplexity is None


def test_a_thought_that_goes_round_is_no_loop_of_the_answer():
    found = costs([], [("Name a fish.", said(f"<think>{LOOP}</think>The trout.", 90))], [Outcome.COMPLIED], seed=0)
    assert found.loops.count == 0


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WINDOW", 16)
    path = tmp_path / "text.txt"
    path.write_text("The quick brown fox jumps over the lazy dog, twice.\n" * 2)
    return path


def loss_by_hand(subject, window):
    with torch.inference_mode():
        logprobs = subject.model(input_ids=torch.tensor([window])).logits[0].log_softmax(-1)
    return [-float(logprobs[i, token]) for i, token in enumerate(window[1:])]


@pytest.mark.parametrize("tokens", [1, 4096])
def test_perplexity_is_that_of_every_token_but_the_first(llama, text, monkeypatch, tokens):
    monkeypatch.setitem(batching.TOKEN_BUDGET, "cpu", tokens)
    windows = read_windows(llama, text, 99)
    ids = llama.tokenizer(text.read_text())["input_ids"]
    assert [token for window in windows for token in window[1:]] == ids[1:]
    losses = window_losses(llama, windows)
    every = [loss_by_hand(llama, window) for window in windows]
    assert losses == pytest.approx([sum(x) / len(x) for x in every], rel=1e-4)
    found = perplexity(windows, losses, seed=1)
    flat = [x for losses in every for x in losses]
    assert found.tokens == len(ids) - 1
    assert found.perplexity == pytest.approx(math.exp(sum(flat) / len(flat)), rel=1e-4)
    assert (found.loss.n, found.loss.seed) == (len(windows), 1)


def test_hooks_count_and_the_limit_holds(llama, text):
    windows = read_windows(llama, text, 2)
    assert [len(window) for window in windows] == [17, 17]
    plain = window_losses(llama, windows)
    with edited(llama, Ablate(direction(llama))):
        assert window_losses(llama, windows) != plain
    assert window_losses(llama, windows) == plain


@pytest.mark.parametrize("content", [b"", b"x", b"\xff\xfe\xff", None])
def test_a_text_that_cannot_be_used_is_named(llama, tmp_path, content):
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PromptsError, match=r"text\.txt.*evaluation\.perplexity_file"):
        read_windows(llama, path, 4)
