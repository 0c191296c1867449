"""What each verb does: open, compute, show. The computing is in `runs`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from abliterate.anatomy.inspection import inspect as describe
from abliterate.anatomy.load import Subject, load_config, read_config
from abliterate.anatomy.study import study
from abliterate.directions.direction import Direction
from abliterate.edits.edit import Ablate
from abliterate.edits.quantised import recognise
from abliterate.files import check_output, check_room
from abliterate.runs import results
from abliterate.runs.context import Context
from abliterate.runs.demo import RESULT_BYTES, demo_model, demo_settings
from abliterate.runs.resume import ANOTHER_CACHE
from abliterate.settings import Settings, resolve
from abliterate.ui.console import Console


def settings(config: Path | None, flags: Mapping[str, Any], assignments: Sequence[str] | None) -> Settings:
    """Merge file, environment and flags.

    Raises:
        SettingsError: an unknown key or a value out of range.
    """
    return resolve(config=config, flags=flags, assignments=assignments or ())


def run(model: str, out: Path | None, chosen: Settings, *, force: bool, json: bool) -> None:
    """`abliterate run`."""
    out = out or _default(model, "abliterated")
    check_output(out, force=force)
    console = Console(json=json)
    context = _open(model, chosen, console)
    record = results.run_into(context, out, force=force)
    console.record(record, out)


def find(model: str, out: Path | None, chosen: Settings, *, force: bool, json: bool) -> None:
    """`abliterate find`."""
    out = out or _default(model, "direction")
    check_output(out, force=force)
    console = Console(json=json)
    record = results.find_into(_open(model, chosen, console), out, force=force)
    console.record(record, out)


def measure(model: str, direction: Path | None, out: Path | None, chosen: Settings, *, force: bool, json: bool) -> None:
    """`abliterate measure`."""
    if out is not None:
        check_output(out, force=force)
    edit = None if direction is None else Ablate(Direction.load(direction), chosen.edit.strength)
    console = Console(json=json)
    record = results.measure_into(_open(model, chosen, console), edit, out, force=force)
    console.record(record, out)


def bake(model: str, direction: Path, out: Path | None, chosen: Settings, *, force: bool, json: bool) -> None:
    """`abliterate bake`."""
    out = out or _default(model, "abliterated")
    check_output(out, force=force)
    read = Direction.load(direction)
    console = Console(json=json)
    record = results.bake_into(_open(model, chosen, console), read, out, force=force)
    console.record(record, out)


def inspect(model: str, chosen: Settings, *, json: bool) -> None:
    """`abliterate inspect`."""
    console = Console(json=json)
    with console.status(f"studying {model}"):
        options = chosen.model
        directory, config, stored = load_config(
            model, revision=options.revision, trust_remote_code=options.trust_remote_code
        )
        found = study(config, trust_remote_code=options.trust_remote_code)
        if stored is None:
            seen = describe(model, found, None)
        else:
            scheme = recognise(read_config(directory), stored)
            seen = describe(model, found, scheme.weights(), scheme.obstacle)
    console.inspection(seen)


def demo(out: Path | None, chosen: Settings, *, force: bool, json: bool) -> None:
    """`abliterate demo`."""
    out = out or Path("abliterate-demo")
    check_output(out, force=force, needed_bytes=RESULT_BYTES)
    console = Console(json=json)
    directory = demo_model(chosen.cache, console)
    context = _open(str(directory), demo_settings(chosen), console)
    record = results.run_into(context, out, force=force, command="demo")
    console.record(record, out)


def _open(model: str, chosen: Settings, console: Console) -> Context:
    check_room(chosen.cache / "runs", elsewhere=ANOTHER_CACHE)
    with console.status(f"loading {model}"):
        context = Context.open(model, chosen, console)
        _touch(context.subject)
    return context


def _touch(subject: Subject) -> None:
    """Find the writers now, so that an unsupported model is refused before any long work."""
    _ = subject.anatomy


def _default(model: str, suffix: str) -> Path:
    return Path(f"{Path(model).expanduser().resolve().name}-{suffix}")
