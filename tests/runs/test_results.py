"""Whole runs on the tiny refusing model: what they leave on the disk, and that they resume."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from abliterate.anatomy.load import load
from abliterate.capture.forward import complete
from abliterate.directions.direction import Direction
from abliterate.edits import proof
from abliterate.edits.edit import Ablate
from abliterate.errors import ContrastTooSmall, DirectionMismatch, OutputExists, VerificationFailed
from abliterate.reports.record import RunRecord
from abliterate.runs import find as find_module
from abliterate.runs import results
from abliterate.runs.context import Context
from abliterate.settings import Settings, resolve
from tests.refusing import GOOD, write_prompts
from tests.refusing import prompts as combinations
from tests.runs.conftest import QUICK

Open = Callable[[], Context]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, model: Path) -> tuple[Path, RunRecord]:
    """One whole run, shared by the tests that look at what it wrote."""
    folder = tmp_path_factory.mktemp("run")
    refused, answered = write_prompts(folder)
    flags = QUICK | {"prompts.refused": str(refused), "prompts.answered": str(answered), "cache": str(folder / "cache")}
    run = Context.open(str(model), resolve(flags=flags))
    return folder / "out", results.run_into(run, folder / "out", force=False)


def test_a_run_leaves_a_model_a_direction_a_record_and_a_report(finished: tuple[Path, RunRecord]) -> None:
    out, record = finished
    assert {p.name for p in out.iterdir()} == {"model", "direction.safetensors", "record.json", "report.html"}
    assert RunRecord.load(out / "record.json") == record
    assert not list(out.parent.glob(".*partial*"))


def test_the_edited_model_no_longer_refuses_and_the_random_control_does(finished: tuple[Path, RunRecord]) -> None:
    _, record = finished
    before, after, control = (record.of(v) for v in ("unedited", "edited", "random"))
    assert before is not None and after is not None and control is not None
    assert before.refused.refused.rate > 0.9
    assert after.refused.refused.rate < 0.5
    assert before.refused.refused.low <= control.refused.refused.rate <= before.refused.refused.high
    assert after.drift is not None and after.drift.first_token.mean > 0


def test_the_edited_model_loads_with_plain_transformers_in_the_same_dtype(
    finished: tuple[Path, RunRecord], model: Path
) -> None:
    out, _ = finished
    edited_model = AutoModelForCausalLM.from_pretrained(out / "model")
    assert edited_model.dtype is torch.bfloat16
    ours, theirs = (AutoTokenizer.from_pretrained(p) for p in (out / "model", model))
    assert ours.chat_template == theirs.chat_template
    assert "abliterate" in json.loads((out / "model" / "config.json").read_text())
    assert "edited" in (out / "model" / "README.md").read_text().lower()


def test_scores_come_from_prompts_that_neither_fitted_nor_chose(
    finished: tuple[Path, RunRecord], quick: Settings
) -> None:
    from abliterate.capture.prompts import Split, split_of

    _, record = finished
    assert record.samples
    assert {split_of(sample.prompt) for sample in record.samples} == {Split.REPORT}


def test_what_is_baked_answers_as_the_hooks_did(finished: tuple[Path, RunRecord], context: Open) -> None:
    out, record = finished
    run = context()
    baked = load(out / "model")
    prompts = [sample.prompt for sample in record.samples[:8]]
    texts = [c.text for c in complete(baked, run.chat.encode(prompts), max_new_tokens=8, title="")]
    assert texts == [sample.after for sample in record.samples[:8]]


def test_an_interrupted_run_leaves_nothing_and_takes_up_where_it_was(
    context: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(results, "prove", interrupt)
        with pytest.raises(KeyboardInterrupt):
            results.run_into(context(), tmp_path / "out", force=False)
    assert not [p for p in tmp_path.iterdir() if "out" in p.name]
    monkeypatch.setattr(find_module, "complete", interrupt)  # would interrupt again if it observed again
    record = results.run_into(context(), tmp_path / "out", force=False)
    assert (tmp_path / "out" / "record.json").exists()
    assert "observe" not in record.seconds


def test_a_failed_proof_leaves_nothing_that_looks_finished(
    context: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "tolerances", lambda storage, compute: (0.0, 0.0))
    with pytest.raises(VerificationFailed):
        results.run_into(context(), tmp_path / "out", force=False)
    assert not [p for p in tmp_path.iterdir() if "out" in p.name]


def test_find_then_measure_and_bake_is_the_same_as_run(
    context: Open, tmp_path: Path, finished: tuple[Path, RunRecord]
) -> None:
    out, whole = finished
    found = results.find_into(context(), tmp_path / "found", force=False)
    assert found.chosen == whole.chosen
    direction = Direction.load(tmp_path / "found" / "direction.safetensors")
    measured = results.measure_into(context(), Ablate(direction), tmp_path / "measured", force=False)
    assert measured.scores == whole.scores
    results.bake_into(context(), direction, tmp_path / "baked", force=False)
    ours, theirs = (load_file(p / "model.safetensors") for p in (tmp_path / "baked", out / "model"))
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_an_output_that_exists_is_refused_before_any_work(context: Open, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(OutputExists):
            results.run_into(context(), tmp_path / "out", force=force)
    assert (tmp_path / "out" / "thesis.txt").exists()


def test_a_model_that_does_not_refuse_is_told_so(model: Path, quick: Settings, tmp_path: Path) -> None:
    relabelled = tmp_path / "relabelled.txt"
    relabelled.write_text("\n".join(prompt for prompt, _, _ in combinations(GOOD)[1::3]))
    prompts = quick.prompts.model_copy(update={"refused": str(relabelled)})
    run = Context.open(str(model), quick.model_copy(update={"prompts": prompts}))
    with pytest.raises(ContrastTooSmall, match="refuses only"):
        results.find_into(run, tmp_path / "found", force=False)
    assert not (tmp_path / "found").exists()


def test_a_direction_of_another_model_is_refused(
    finished: tuple[Path, RunRecord], context: Open, tmp_path: Path
) -> None:
    import dataclasses

    direction = Direction.load(finished[0] / "direction.safetensors")
    other = dataclasses.replace(
        direction, provenance=dataclasses.replace(direction.provenance, config_hash="0" * 64, model="somebody/else")
    )
    with pytest.raises(DirectionMismatch, match="somebody/else"):
        results.bake_into(context(), other, tmp_path / "baked", force=False)
    assert not (tmp_path / "baked").exists()
