"""Greedy completions: the same in a batch as alone, cut at the end of turn, and marked when they were not."""

from dataclasses import replace

import pytest
import torch

from abliterate.capture import batching
from abliterate.capture.forward import complete, end_of_turn
from tests.toys import END, byte_tokenizer, sentences

PROMPTS = sentences(4)
LENGTH = 8


def greedy(subject, prompt, length=LENGTH):
    """One token after the other, without cache, padding or `generate`."""
    ids = list(prompt)
    for _ in range(length):
        with torch.inference_mode():
            ids.append(int(subject.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def run(subject, prompts=PROMPTS, length=LENGTH):
    return complete(subject, prompts, max_new_tokens=length, title="t")


@pytest.fixture
def stops(monkeypatch):
    """Choose the end-of-turn tokens of a subject: `stops(subject, ids)`."""
    return lambda subject, ids: monkeypatch.setattr(subject.model.generation_config, "eos_token_id", ids)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_batch_gives_what_each_prompt_gives_alone(kind, toys, stops, monkeypatch):
    subject = toys(kind)
    stops(subject, END)
    expected = [greedy(subject, prompt) for prompt in PROMPTS]
    for tokens in (1, 4096):
        monkeypatch.setitem(batching.TOKEN_BUDGET, "cpu", tokens)
        for completion, ids in zip(run(subject), expected, strict=True):
            end = ids.index(END) + 1 if END in ids else None
            assert completion.ids == tuple(ids[:end])
            assert completion.finished == (end is not None)
            assert completion.text == subject.tokenizer.decode(ids[:end], skip_special_tokens=True)


@pytest.mark.parametrize("more", [[], [END]])
def test_a_completion_stops_at_the_end_of_turn(llama, stops, more):
    """The end of turn is made to be whatever this toy says third; other rows go on."""
    plain = [greedy(llama, prompt) for prompt in PROMPTS]
    stop = {plain[0][2], *more}
    stops(llama, [*stop] if more else plain[0][2])
    assert end_of_turn(llama) == stop
    completions = run(llama)
    for completion, ids in zip(completions, plain, strict=True):
        end = next((place + 1 for place, token in enumerate(ids) if token in stop), None)
        assert completion.ids == tuple(ids[:end])
        assert completion.finished == (end is not None)
    assert {completion.finished for completion in completions} == {True, False}


def test_an_end_of_turn_on_the_last_token_counts_as_finished(llama, stops):
    ids = greedy(llama, PROMPTS[0])
    stop = ids[2]
    stops(llama, stop)
    (completion,) = run(llama, PROMPTS[:1], length=ids.index(stop) + 1)
    assert completion.finished and completion.ids[-1] == stop


def test_padding_that_is_also_the_end_of_turn_is_no_answer(llama, stops):
    """A row that ended early is filled up by `generate`; the filling is not kept."""
    stop = greedy(llama, PROMPTS[0])[2]
    stops(llama, stop)
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(stop)
    assert tokenizer.pad_token_id == stop
    for completion in run(replace(llama, tokenizer=tokenizer)):
        assert completion.ids.count(stop) == (1 if completion.finished else 0)


def test_special_tokens_are_not_text(llama, stops):
    stops(llama, END)
    completions = run(llama)
    assert all("<|" not in completion.text for completion in completions)


def test_without_a_generation_config_the_tokenizer_knows_the_end_of_turn(llama, stops):
    stops(llama, None)
    assert end_of_turn(llama) == {END}


def test_a_repetition_penalty_that_comes_with_the_model_is_ignored(llama, stops, monkeypatch):
    """It would change what is measured."""
    stops(llama, END)
    expected = run(llama)
    for name, value in (("repetition_penalty", 5.0), ("do_sample", True), ("temperature", 3.0), ("top_k", 3)):
        monkeypatch.setattr(llama.model.generation_config, name, value)
    assert run(llama) == expected
