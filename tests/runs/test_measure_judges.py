"""The judges of the settings decide what `measure` counts, and are compared with each other."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from abliterate.evals.judges import BuiltinJudge, Judge, Pair
from abliterate.evals.outcome import Outcome
from abliterate.progress import Silent
from abliterate.runs import measure as module
from abliterate.runs.context import Context
from abliterate.runs.measure import measure

Open = Callable[[], Context]


class Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)


class Evading:
    name = "evading"

    def judge(self, pairs: list[Pair]) -> list[Outcome]:
        return [Outcome.EVASIVE for _ in pairs]


@pytest.mark.parametrize("order", [("builtin", "hf:evading"), ("hf:evading", "builtin")])
def test_the_first_judge_counts_and_the_others_are_compared(
    context: Open, monkeypatch: pytest.MonkeyPatch, order: tuple[str, ...]
) -> None:
    def open_judge(spec: str, *, cache: Path, labels: dict[str, str], device: str) -> Judge:
        return BuiltinJudge() if spec == "builtin" else Evading()

    monkeypatch.setattr(module, "open_judge", open_judge)
    run, notes = context(), Notes()
    chosen = run.settings.evaluation.model_copy(update={"judges": order})
    run = dataclasses.replace(run, settings=run.settings.model_copy(update={"evaluation": chosen}), progress=notes)
    measured = measure(run, None)
    (scores,), samples = measured.scores, measured.samples
    first_is_evading = order[0] != "builtin"
    assert (scores.refused.evasive.rate == 1) is first_is_evading
    assert (scores.refused.refused.rate > 0.9) is not first_is_evading
    assert {sample.before_outcome for sample in samples} == (
        {Outcome.EVASIVE} if first_is_evading else {Outcome(s.before_outcome) for s in samples}
    )
    told = [line for line in notes.lines if "kappa" in line]
    assert len(told) == 1 and told[0].startswith("unedited: ") and "evading" in told[0]
