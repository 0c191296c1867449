"""What each command leaves on the disk: whole directories, or nothing."""

import time
from collections.abc import Mapping
from pathlib import Path

from abliterate.anatomy.dissect import Form
from abliterate.capture.prompts import Label
from abliterate.directions.direction import Direction
from abliterate.edits.bake import bake, baked_bytes
from abliterate.edits.edit import Ablate
from abliterate.edits.hooks import check_fits
from abliterate.edits.proof import Proof, prove
from abliterate.files import check_output, new_directory
from abliterate.reports.card import render_card
from abliterate.reports.html import render_report
from abliterate.reports.record import RunRecord
from abliterate.runs.context import Context
from abliterate.runs.find import chosen_facts, find, observe
from abliterate.runs.measure import measure

SMALL_FILES = 10_000_000  # room for a record, a report and a direction


def find_into(run: Context, out: Path, *, force: bool) -> RunRecord:
    """Find the direction and write `direction.safetensors`, `record.json` and `report.html`.

    Raises:
        UserError: as `observe` and `find`; or `out` exists.
    """
    check_output(out, force=force, needed_bytes=SMALL_FILES)
    start = time.perf_counter()
    seen = observe(run)
    found = find(run, seen)
    facts = {
        "observed": seen.facts(),
        "candidates": found.candidates,
        "sensitivity": found.sensitivity,
        "chosen": chosen_facts(found.direction),
        "geometry": found.geometry,
    }
    record = _finish(run, "find", start, facts)
    with new_directory(out, force=force) as folder:
        found.direction.save(folder / "direction.safetensors")
        _write_report(record, folder)
    run.stages.clear()
    return record


def measure_into(run: Context, edit: Ablate | None, out: Path | None, *, force: bool) -> RunRecord:
    """Measure the report prompts, with the edit if there is one; write `record.json` and `report.html` if asked.

    Raises:
        DirectionMismatch: the direction was made for another model.
        OutputExists: `out` exists.
    """
    if out is not None:
        check_output(out, force=force, needed_bytes=SMALL_FILES)
    if edit is not None:
        check_fits(run.subject, edit)
    start = time.perf_counter()
    measured = measure(run, edit)
    strength = edit.strength if edit else None
    record = _finish(run, "measure", start, {**measured.facts(), "strength": strength})
    if out is not None:
        with new_directory(out, force=force) as folder:
            _write_report(record, folder)
    run.stages.clear()
    return record


def bake_into(run: Context, direction: Direction, out: Path, *, force: bool) -> RunRecord:
    """Write the edited checkpoint and prove it; `out` is the model's directory.

    Raises:
        DirectionMismatch: the direction was made for another model.
        VerificationFailed: the checkpoint is not what the edit says; nothing is left.
        OutputExists, NotEnoughSpace: before any work.
    """
    edit = Ablate(direction, run.settings.edit.strength)
    check_fits(run.subject, edit)
    check_output(out, force=force, needed_bytes=baked_bytes(run.subject))
    start = time.perf_counter()
    with new_directory(out, force=force) as folder:
        proof = _bake(run, edit, folder)
        record = _finish(
            run, "bake", start, {"chosen": chosen_facts(direction), "strength": edit.strength, "proof": proof}
        )
        (folder / "README.md").write_text(render_card(record), encoding="utf-8")
        record.save(folder / "record.json")
    return record


def run_into(run: Context, out: Path, *, force: bool, command: str = "run") -> RunRecord:
    """The whole pipeline: `model/`, `direction.safetensors`, `record.json` and `report.html`.

    No `model/` where the weights cannot carry the edit exactly; it is then measured with hooks alone.

    The scores come before the baking, so that the large directory exists for as short a time as possible; what they
    measure is the hooked model, which the proof then compares with the one on disk.

    Raises:
        UserError: as the stages.
        VerificationFailed: the checkpoint is not what the edit says; nothing is left.
    """
    bakes = run.subject.anatomy.form is Form.WEIGHTS
    check_output(out, force=force, needed_bytes=(baked_bytes(run.subject) if bakes else 0) + SMALL_FILES)
    if not bakes:
        run.progress.note(f"exact by hooks only, so no model will be written: {run.subject.anatomy.reason}")
    start = time.perf_counter()
    seen = observe(run)
    found = find(run, seen)
    edit = Ablate(found.direction, run.settings.edit.strength)
    measured = measure(run, edit)
    with new_directory(out, force=force) as folder:
        proof = None
        if bakes:
            (folder / "model").mkdir()
            proof = _bake(run, edit, folder / "model")
        facts = {
            "observed": seen.facts(),
            "candidates": found.candidates,
            "sensitivity": found.sensitivity,
            "chosen": chosen_facts(found.direction),
            "geometry": found.geometry,
            "strength": edit.strength,
            "proof": proof,
            **measured.facts(),
        }
        record = _finish(run, command, start, facts)
        found.direction.save(folder / "direction.safetensors")
        if bakes:
            (folder / "model" / "README.md").write_text(render_card(record), encoding="utf-8")
        _write_report(record, folder)
    run.stages.clear()
    return record


def _bake(run: Context, edit: Ablate, folder: Path) -> Proof:
    start = time.perf_counter()
    with run.progress.track("bake and prove", 2) as advance:
        baked = bake(run.subject, edit, folder)
        advance(1)
        texts = [text for label in Label for text in run.material.report[label][:4]]
        proof = prove(run.subject, edit, folder, run.chat.encode(texts), baked.requantised)
        advance(1)
    run.stages.seconds["bake"] = time.perf_counter() - start
    return proof


def _finish(run: Context, command: str, start: float, facts: Mapping[str, object]) -> RunRecord:
    """The record of a command with what it found and how long it took, stage by stage."""
    seconds = {name: round(value, 2) for name, value in run.stages.seconds.items()}
    seconds["total"] = round(time.perf_counter() - start, 2)
    return run.record(command).model_copy(update={**facts, "seconds": seconds})


def _write_report(record: RunRecord, folder: Path) -> None:
    record.save(folder / "record.json")
    (folder / "report.html").write_text(render_report(record), encoding="utf-8")
