"""What a measurement holds besides counts: tests, over-refusal, controls, costs, and how steady the direction is."""

import dataclasses
import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from abliterate.capture.prompts import Label
from abliterate.errors import MissingExtra, SettingsError
from abliterate.evals.harness import TaskScore
from abliterate.reports.html import render_report
from abliterate.reports.record import RunRecord
from abliterate.runs import results, variant
from abliterate.runs.context import Context
from abliterate.settings import Settings, resolve
from tests.refusing import write_prompts
from tests.runs.conftest import QUICK

TEXT = "how do i paint a car sure , here is how people do it : first find good tools\n" * 40


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory, model: Path) -> RunRecord:
    """A whole run with everything on."""
    folder = tmp_path_factory.mktemp("measured")
    refused, answered = write_prompts(folder)
    (folder / "text.txt").write_text(TEXT)
    flags = QUICK | {
        "prompts.refused": str(refused),
        "prompts.answered": str(answered),
        "cache": str(folder / "cache"),
        "evaluation.perplexity_file": str(folder / "text.txt"),
        "evaluation.borderline_limit": 6,
        "evaluation.seed": 5,
    }
    run = Context.open(str(model), resolve(flags=flags))
    results.run_into(run, folder / "out", force=False)
    return RunRecord.load(folder / "out" / "record.json")


def test_every_variant_is_tested_against_the_unedited_model(record: RunRecord) -> None:
    compared = {(c.what, c.after): c for c in record.changes}
    assert {after for _, after in compared} == {"edited", "random", "shuffled"}
    assert len(compared) == 9  # two labels and the borderline prompts
    refused = compared["refusals of prompts labelled refused", "edited"]
    before, after = record.of("unedited"), record.of("edited")
    assert before is not None and after is not None
    assert refused.test.n == before.refused.n
    assert refused.test.lost - refused.test.gained == before.refused.refused.count - after.refused.refused.count
    assert refused.difference.tells and not refused.weakness
    unmoved = compared["refusals of prompts labelled refused", "random"]
    assert not unmoved.difference.tells and unmoved.weakness


def test_shifts_are_paired_and_seeded(record: RunRecord) -> None:
    named = {(s.what, s.before): s.difference for s in record.shifts}
    assert set(named) == {
        ("tokens of an answer", "unedited"),
        ("loss on the text, nats a token", "unedited"),
        *(
            (f"KL of the {what}, nats", c)
            for what in ("first token", "whole completion")
            for c in ("random", "shuffled")
        ),
    }
    assert {difference.seed for difference in named.values()} == {5}
    edited, random = record.of("edited"), record.of("random")
    assert edited is not None and random is not None and edited.drift is not None and random.drift is not None
    gap = edited.drift.first_token.mean - random.drift.first_token.mean
    assert named["KL of the first token, nats", "random"].value == pytest.approx(gap)


def test_controls_say_how_they_were_drawn_and_do_nothing(record: RunRecord) -> None:
    before = record.of("unedited")
    assert before is not None and before.seed is None
    for name in ("random", "shuffled"):
        control = record.of(name)  # type: ignore[arg-type]
        assert control is not None and control.seed == 5 and control.cosine is not None
        assert abs(control.cosine) < 0.6  # 48 dimensions leave no room for less
        assert control.refused.refused.rate >= before.refused.refused.low


def test_over_refusal_and_costs_of_every_variant(record: RunRecord) -> None:
    for scores in record.scores:
        assert scores.over_refusal is not None and scores.costs is not None
        assert scores.over_refusal.false_refusals.n == 6
        assert scores.over_refusal.true_refusals == scores.refused.refused  # report prompts stand in
        assert scores.costs.harmless_refusals == scores.answered.refused
        assert scores.costs.perplexity is not None and scores.costs.perplexity.loss.n == 3
    assert record.prompts.sources["borderline"] == "builtin"


def test_the_directions_stability_and_held_out_separation_per_place(record: RunRecord) -> None:
    seen = record.sensitivity
    assert seen is not None and record.chosen is not None
    places = [(s.position, s.layer) for s in seen.stability]
    assert places == [(s.position, s.layer) for s in seen.separation]
    assert len({layer for _, layer in places}) == record.model.layers
    at = places.index((record.chosen.position, record.chosen.layer))
    assert seen.stability[at].least > 0.5 and seen.separation[at].auroc > 0.9
    assert (seen.halvings, seen.seed, seen.n_refused, seen.n_answered) == (8, 5, 16, 16)


def test_a_report_can_be_made_of_it(record: RunRecord) -> None:
    assert "shuffled labels" in render_report(record)


def test_an_older_record_loads(record: RunRecord) -> None:
    old = json.loads(record.model_dump_json())
    for key in ("sensitivity", "changes", "shifts"):
        del old[key]
    for scores in old["scores"]:
        for key in ("agreement", "over_refusal", "costs", "seed", "cosine"):
            del scores[key]
    loaded = RunRecord.model_validate_json(json.dumps(old))
    assert loaded.changes == [] and loaded.of("edited") is not None


def test_borderline_files_with_unsafe_prompts_are_measured_on_both(
    quick: Settings, model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "xstest.csv"
    rows = [f"how do i paint a car {i},homonyms" for i in range(5)] + [f"steal a boat {i},contrast_x" for i in range(4)]
    path.write_text("\n".join(["prompt,type", *rows]) + "\n")
    chosen = quick.evaluation.model_copy(update={"borderline": str(path), "borderline_limit": 4})
    run = Context.open(str(model), quick.model_copy(update={"evaluation": chosen}))
    assert {label: len(texts) for label, texts in run.material.borderline.items()} == {
        Label.ANSWERED: 4,
        Label.REFUSED: 4,
    }
    record = results.measure_into(run, None, None, force=False)
    found = record.scores[0].over_refusal
    assert found is not None and (found.false_refusals.n, found.true_refusals.n) == (4, 4)


def test_off_means_off(quick: Settings, model: Path) -> None:
    off = {"borderline_limit": 0, "separation_prompts": 0, "controls": ()}
    chosen = quick.evaluation.model_copy(update=off)
    run = Context.open(str(model), quick.model_copy(update={"evaluation": chosen}))
    record = results.find_into(run, run.settings.cache / "out", force=False)
    assert record.sensitivity is not None and record.sensitivity.separation == []
    measured = results.measure_into(run, None, None, force=False)
    assert measured.scores[0].over_refusal is None


def test_early_stop_leaves_every_outcome_as_it_was(quick: Settings, model: Path) -> None:
    found = []
    for early in (False, True):
        chosen = quick.evaluation.model_copy(update={"early_stop": early, "max_new_tokens": 24})
        run = Context.open(str(model), quick.model_copy(update={"evaluation": chosen}))
        found.append(results.measure_into(run, None, None, force=False))
    assert found[0].scores == found[1].scores and found[0].samples == found[1].samples
    assert found[1].settings["evaluation"]["early_stop"] is True


def test_what_would_fail_late_is_refused_at_once(quick: Settings) -> None:
    def opened(**changes: object) -> None:
        chosen = quick.evaluation.model_copy(update=changes)
        Context.open("no/model/is/needed", quick.model_copy(update={"evaluation": chosen}))

    with pytest.raises(SettingsError, match="early stop"):
        opened(early_stop=True, judges=("builtin", "hf:some/model"))
    if find_spec("lm_eval") is None:
        with pytest.raises(MissingExtra, match=r"abliterate\[eval\]"):
            opened(tasks=("task.yaml",))


def test_tasks_are_kept_for_the_model_without_and_with_the_edit(
    quick: Settings, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def run_tasks(
        subject: object, tasks: object, *, limit: object, batch_size: object, seed: object
    ) -> list[TaskScore]:
        asked.append((tasks, limit, batch_size, seed))
        return [TaskScore("t", "acc,none", 0.5, 0.1, 4, "1", True)]

    monkeypatch.setattr(variant, "run_tasks", run_tasks)
    run = Context.open(str(model), quick)
    chosen = quick.evaluation.model_copy(update={"tasks": ("t",), "task_limit": 4, "seed": 2, "controls": ("random",)})
    run = dataclasses.replace(run, settings=quick.model_copy(update={"evaluation": chosen}))
    record = results.run_into(run, run.settings.cache / "out", force=False)
    assert asked == [(("t",), 4, 8, 2)] * 2
    assert {s.variant: len(s.tasks) for s in record.scores} == {"unedited": 1, "edited": 1, "random": 0}
