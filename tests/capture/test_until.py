"""Completions that end early are beginnings of the whole ones, and rows that are done cost nothing more."""

import pytest
import torch
from transformers import DynamicCache

from abliterate.capture import batching
from abliterate.capture import until as module
from abliterate.capture.forward import complete, greedy
from abliterate.capture.until import complete_until
from tests.toys import END, sentences

PROMPTS = sentences(6)
LENGTH = 20


@pytest.fixture
def stops(monkeypatch):
    return lambda subject, ids: monkeypatch.setattr(subject.model.generation_config, "eos_token_id", ids)


def never(number, text):
    return False


@pytest.mark.parametrize("tokens", [1, 4096])
def test_without_settling_all_completions_are_the_same(subject, stops, monkeypatch, tokens):
    stops(subject, END)
    whole = complete(subject, PROMPTS, max_new_tokens=LENGTH)
    ids = max((c.ids for c in whole), key=len)
    stops(subject, [END, ids[len(ids) // 2]])  # so that some rows end, in the middle of a step
    whole = complete(subject, PROMPTS, max_new_tokens=LENGTH)
    monkeypatch.setitem(batching.TOKEN_BUDGET, "cpu", tokens)
    assert complete_until(subject, PROMPTS, never, max_new_tokens=LENGTH) == whole
    assert any(c.finished for c in whole)


def test_what_settles_is_a_beginning_and_is_not_finished(llama, stops):
    stops(llama, END)
    whole = complete(llama, PROMPTS, max_new_tokens=LENGTH)
    found = complete_until(llama, PROMPTS, lambda number, text: number % 2 == 0, max_new_tokens=LENGTH)
    for number, (cut, full) in enumerate(zip(found, whole, strict=True)):
        assert cut.ids == full.ids[: module.STEP] if number % 2 == 0 else cut == full
        assert not cut.finished or full.finished


def test_rows_that_are_done_leave_the_batch_and_the_cache(llama, stops, monkeypatch):
    stops(llama, END)
    sizes = []

    def spy(subject, ids, mask, count, cache=None):
        assert ids.shape == mask.shape
        assert (cache is None) == (not sizes)
        if cache is not None:
            assert cache.layers[0].keys.shape[0] == len(ids) and cache.get_seq_length() == ids.shape[1] - 1
        sizes.append(len(ids))
        return greedy(subject, ids, mask, count, cache)

    monkeypatch.setattr(module, "greedy", spy)
    complete_until(llama, PROMPTS, lambda number, text: number < 4, max_new_tokens=LENGTH)
    assert sizes == [6, 2, 2]


def test_a_cache_that_cannot_be_divided_is_made_again(llama, stops, monkeypatch):
    """Slower, and the same."""
    stops(llama, END)
    monkeypatch.setattr(module, "DynamicLayer", DynamicCache)  # no layer is of this type
    monkeypatch.setattr(module, "DynamicSlidingWindowLayer", DynamicCache)
    assert complete_until(llama, PROMPTS, never, max_new_tokens=LENGTH) == complete(
        llama, PROMPTS, max_new_tokens=LENGTH
    )


def test_a_prompts_logits_are_computed_at_its_last_position_alone(llama, stops):
    """What `generate` does by itself; a change of that would show here."""
    stops(llama, END)
    seen = []
    handle = llama.model.get_output_embeddings().register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    try:
        complete(llama, PROMPTS, max_new_tokens=3)
    finally:
        handle.remove()
    assert seen == [torch.Size([len(PROMPTS), 1, llama.anatomy.width])] * 3


def test_batches_are_of_like_length(llama, stops, monkeypatch):
    stops(llama, END)
    monkeypatch.setitem(batching.TOKEN_BUDGET, "cpu", 60)
    widths = []
    monkeypatch.setattr(module, "greedy", lambda *a: widths.append(a[1].shape) or greedy(*a))
    complete_until(llama, PROMPTS, never, max_new_tokens=module.STEP)
    assert [w for _, w in widths] == sorted((w for _, w in widths), reverse=True) and len(widths) > 1
