"""What is gathered from a batch is what each prompt alone gives, whatever the padding."""

from dataclasses import replace

import pytest
import torch

from abliterate.anatomy.load import load
from abliterate.capture import batching
from abliterate.capture import collect as module
from abliterate.capture.collect import collect, one_stream, projections
from abliterate.capture.forward import first_token_logprobs
from tests.toys import LAYERS, WIDTH, byte_tokenizer, hooks, logits, sentences, toy, work_in_place

PROMPTS = sentences(9)
POSITIONS = (-4, -3, -2, -1)

# The same float32 sums in another order (padded rows, larger matrices), through three blocks.
SAME = {"rtol": 1e-4, "atol": 1e-4}


def by_hand(subject):
    """[prompts, positions, L, d], one prompt at a time and without padding, from transformers' own record."""
    states = []
    for prompt in PROMPTS:
        with torch.inference_mode():
            output = subject.model(input_ids=torch.tensor([prompt]), output_hidden_states=True, use_cache=False)
        states.append(torch.stack(output.hidden_states[:LAYERS], dim=2)[0, -len(POSITIONS) :].double())
    return torch.stack(states)


def test_moments_are_those_of_each_prompt_alone(subject):
    x = by_hand(subject)
    ours = collect(subject, PROMPTS, POSITIONS, covariance=True)
    assert ours.count == len(PROMPTS)
    torch.testing.assert_close(ours.mean, x.mean(dim=0), **SAME)
    torch.testing.assert_close(ours.covariance[2, 1], torch.cov(x[:, 2, 1].T), **SAME)


@pytest.mark.parametrize("tokens", [1, 50])
def test_any_grouping_into_batches_gives_the_same(subject, monkeypatch, tokens):
    together = collect(subject, PROMPTS, POSITIONS)
    monkeypatch.setitem(batching.TOKEN_BUDGET, "cpu", tokens)
    torch.testing.assert_close(collect(subject, PROMPTS, POSITIONS).mean, together.mean, **SAME)


def test_blocks_may_overwrite_their_stream(toys, tmp_path):
    subject = load(toy("llama", tmp_path))
    assert subject.anatomy.layers == LAYERS  # found before, so that this is about collecting alone
    work_in_place(subject.model)
    assert torch.equal(collect(subject, PROMPTS, POSITIONS).mean, collect(toys("llama"), PROMPTS, POSITIONS).mean)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_tokenizers_own_padding_side_does_not_matter(toys, tmp_path, side):
    subject = load(toy("llama", tmp_path, padding_side=side))
    assert subject.tokenizer.padding_side == side
    assert torch.equal(collect(subject, PROMPTS, POSITIONS).mean, collect(toys("llama"), PROMPTS, POSITIONS).mean)


def test_a_tokenizer_without_a_pad_token_is_good_enough(llama):
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = None
    ours = collect(replace(llama, tokenizer=tokenizer), PROMPTS, POSITIONS)
    torch.testing.assert_close(ours.mean, collect(llama, PROMPTS, POSITIONS).mean, **SAME)


def test_rows_of_a_batch_that_ran_out_of_memory_are_counted_once(llama, monkeypatch):
    """Only their second run counts, which is in smaller batches."""
    expected = collect(llama, PROMPTS, POSITIONS)
    failures = []

    def run(subject, batch, inner=module.run_decoder):
        inner(subject, batch)
        if len(batch.ids) > 3:
            failures.append(len(batch.ids))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(module, "run_decoder", run)
    ours = collect(llama, PROMPTS, POSITIONS)
    assert failures == [9, 4] and ours.count == len(PROMPTS)
    torch.testing.assert_close(ours.mean, expected.mean, **SAME)


def test_projections_are_the_coordinates_of_each_prompt(subject):
    basis = torch.randn(len(POSITIONS), LAYERS, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    basis /= basis.norm(dim=-1, keepdim=True)
    ours = projections(subject, PROMPTS, basis).double()
    torch.testing.assert_close(ours, (by_hand(subject) * basis).sum(dim=-1), **SAME)


def test_first_token_probabilities_are_those_of_each_prompt_alone(subject):
    ours = first_token_logprobs(subject, PROMPTS, title="t").double()
    alone = torch.stack([logits(subject.model, prompt)[-1].log_softmax(dim=-1) for prompt in PROMPTS])
    torch.testing.assert_close(ours, alone, **SAME)


def test_collecting_leaves_no_hook_behind_even_when_it_fails(llama):
    before = hooks(llama.model)
    collect(llama, PROMPTS[:2], POSITIONS)
    with pytest.raises(IndexError):
        collect(llama, [[10**6] * 6], POSITIONS)  # no such token
    assert hooks(llama.model) == before


@pytest.mark.parametrize("shape", [(2, 5, WIDTH), (2, 5, 3, WIDTH), (2, 5, 3 * WIDTH)])
def test_of_several_copies_of_the_stream_the_mean_is_read(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    copies = x.reshape(2, 5, -1, WIDTH)
    torch.testing.assert_close(one_stream(x, WIDTH), copies.mean(dim=2))
