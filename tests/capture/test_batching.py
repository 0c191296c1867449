"""Batches: the original order, every row once, halved when memory runs out, padded on the left."""

from contextlib import contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from abliterate.capture import batching
from abliterate.capture.batching import pad, run_batched

CPU = torch.device("cpu")
OUT_OF_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
)


def rows(*lengths):
    return [[n] * length for n, length in enumerate(lengths)]


def run(sequences, work, **options):
    return run_batched(sequences, work, device=CPU, title="t", **options)


@pytest.fixture(autouse=True)
def freed(monkeypatch):
    """Counts how often memory was freed; collecting the garbage of a whole test session takes long."""
    calls = []
    monkeypatch.setattr(batching, "_free_memory", lambda: calls.append(1))
    return calls


@pytest.fixture
def budget(monkeypatch):
    return lambda tokens: monkeypatch.setitem(batching.TOKEN_BUDGET, "cpu", tokens)


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(0, 20))
def test_results_come_back_in_order_and_every_row_is_worked_on_once(lengths, extra):
    seen = []

    def work(batch):
        seen.extend(batch)
        return [-i for i in batch]

    assert run(rows(*lengths), work, extra_tokens=extra) == [-i for i in range(len(lengths))]
    assert sorted(seen) == list(range(len(lengths)))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(0, 20), st.integers(1, 200))
def test_no_batch_exceeds_the_budget_unless_it_is_one_row(lengths, extra, tokens):
    def work(batch):
        assert len(batch) == 1 or len(batch) * (max(lengths[i] for i in batch) + extra) <= tokens
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(batching.TOKEN_BUDGET, "cpu", tokens)
        run(rows(*lengths), work, extra_tokens=extra)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_a_batch_is_halved_until_it_fits(error, freed):
    sizes = []

    def work(batch):
        sizes.append(len(batch))
        if len(batch) > 3:
            raise error
        return [i * 10 for i in batch]

    assert run(rows(*[5] * 16), work) == [i * 10 for i in range(16)]
    assert sizes == [16, 8, 4] + [2] * 8
    assert len(freed) == 3


def test_later_and_shorter_rows_use_the_smaller_budget_fully():
    """Halving is remembered in tokens, so short rows still come many at a time."""
    fits = 40
    sizes = []

    def work(batch):
        if sum(lengths[i] for i in batch) > fits:
            raise OUT_OF_MEMORY[0]
        sizes.append(len(batch))
        return batch

    lengths = [20] * 4 + [2] * 20
    run(rows(*lengths), work)
    assert max(sizes) > 4


def test_one_row_that_does_not_fit_is_an_error():
    calls = []

    def work(batch):
        calls.append(len(batch))
        raise OUT_OF_MEMORY[0]

    with pytest.raises(torch.OutOfMemoryError):
        run(rows(5, 5, 5), work)
    assert calls == [3, 1]


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("x"), KeyError("x")]
)
def test_other_errors_are_not_retried(error):
    calls = []

    def work(batch):
        calls.append(len(batch))
        raise error

    with pytest.raises(type(error)):
        run(rows(5, 5), work)
    assert calls == [2]


def test_too_few_results_are_a_bug():
    with pytest.raises(ValueError, match="shorter"):
        run(rows(5, 5), lambda batch: batch[:-1])


def test_progress_counts_finished_rows_only(budget):
    """Not those of a batch that ran out of memory."""
    budget(20)
    steps = []

    class Bar:
        @contextmanager
        def track(self, title, total):
            steps.append((title, total))
            yield steps.append

        def note(self, message):
            raise AssertionError(message)

    def work(batch):
        if len(batch) == 4:
            raise OUT_OF_MEMORY[0]
        return batch

    run(rows(*[5] * 6), work, progress=Bar())
    assert steps == [("t", 6), 2, 2, 2]


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=5))
def test_padding_is_on_the_left_and_shifts_no_position(sequences):
    batch = pad(sequences, 0, CPU)
    for row, sequence in enumerate(sequences):
        assert batch.ids[row, -len(sequence) :].tolist() == sequence
        assert batch.mask[row].sum() == len(sequence)
        assert batch.ids[row][batch.mask[row] == 0].eq(0).all()
        assert batch.position_ids[row, -len(sequence) :].tolist() == list(range(len(sequence)))
        assert batch.position_ids.min() >= 0
