"""The `abliterate` command: verbs and options. Everything heavy is imported inside the verb that needs it."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal, NoReturn

import typer

from abliterate.errors import UserError, VerificationFailed

# Typer keeps click to itself; this is the class of every complaint about the command line.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

INTERRUPTED = 130

app = typer.Typer(
    help="Find, measure and edit the direction by which a language model holds a behaviour, refusal first of all.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help starts in half the time
    epilog="Start with `abliterate demo`, then `abliterate run MODEL`.",
)

Model = Annotated[str, typer.Argument(help="A directory with a transformers checkpoint, or a hub id.", metavar="MODEL")]
Out = Annotated[Path | None, typer.Option("-o", "--out", help="Where the result goes.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an earlier result.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, all else on stderr.")]
Config = Annotated[Path | None, typer.Option("--config", help="A TOML file with settings.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, such as selection.kl_limit=0.2. Repeatable.")
]
Refused = Annotated[
    str | None,
    typer.Option("--refused", help="Prompts expected to be refused: a file or owner/name:split[slice]."),
]
Answered = Annotated[str | None, typer.Option("--answered", help="Prompts expected to be answered, likewise.")]
ReportRefused = Annotated[
    str | None, typer.Option("--report-refused", help="Other prompts to report refusal on, all of them.")
]
ReportAnswered = Annotated[
    str | None, typer.Option("--report-answered", help="Other prompts to report damage on, all of them.")
]
System = Annotated[str | None, typer.Option("--system-prompt", help="Put before every prompt.")]
Template = Annotated[Path | None, typer.Option("--chat-template", help="A Jinja file for a tokenizer without one.")]
Strength = Annotated[float | None, typer.Option("--strength", help="Share of the component to remove, 0 to 2.")]
EarlyStop = Annotated[
    bool | None,
    typer.Option("--early-stop", help="End a completion once it is certain that it refuses; counts stay the same."),
]
Tasks = Annotated[
    str | None, typer.Option("--tasks", help="Tasks of lm-evaluation-harness: names or YAML files, with commas.")
]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, mps.")]
Dtype = Annotated[str | None, typer.Option("--dtype", help="Dtype of computation: auto, float32, bfloat16, ...")]
Revision = Annotated[str | None, typer.Option("--revision", help="Hub branch, tag or commit.")]
Remote = Annotated[bool | None, typer.Option("--trust-remote-code", help="Run code that comes with the model.")]
DirectionFile = Annotated[Path, typer.Argument(help="A direction.safetensors.", metavar="DIRECTION")]
MaybeDirection = Annotated[
    Path | None, typer.Argument(help="A direction.safetensors; left out, the model is measured as it is.")
]


@app.command(short_help="All of it: find, remove, prove, measure, write the model.")
def run(
    model: Model,
    out: Out = None,
    refused: Refused = None,
    answered: Answered = None,
    report_refused: ReportRefused = None,
    report_answered: ReportAnswered = None,
    strength: Strength = None,
    early_stop: EarlyStop = None,
    tasks: Tasks = None,
    system_prompt: System = None,
    chat_template: Template = None,
    device: Device = None,
    dtype: Dtype = None,
    revision: Revision = None,
    trust_remote_code: Remote = None,
    config: Config = None,
    assignments: Set = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Find the direction, remove it, prove it, measure it, and write the edited model: all of the pipeline."""
    from abliterate.ui import verbs

    flags = {
        "prompts.refused": refused,
        "prompts.answered": answered,
        "prompts.report_refused": report_refused,
        "prompts.report_answered": report_answered,
        "edit.strength": strength,
        "evaluation.early_stop": early_stop,
        "evaluation.tasks": _listed(tasks),
        **_model_flags(system_prompt, chat_template, device, dtype, revision, trust_remote_code),
    }
    verbs.run(model, out, verbs.settings(config, flags, assignments), force=force, json=json)


@app.command(short_help="Find the direction; writes no model.")
def find(
    model: Model,
    out: Out = None,
    refused: Refused = None,
    answered: Answered = None,
    system_prompt: System = None,
    chat_template: Template = None,
    device: Device = None,
    dtype: Dtype = None,
    revision: Revision = None,
    trust_remote_code: Remote = None,
    config: Config = None,
    assignments: Set = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Find the direction and write it with its record; no model is written."""
    from abliterate.ui import verbs

    flags = {
        "prompts.refused": refused,
        "prompts.answered": answered,
        **_model_flags(system_prompt, chat_template, device, dtype, revision, trust_remote_code),
    }
    verbs.find(model, out, verbs.settings(config, flags, assignments), force=force, json=json)


@app.command(short_help="Count refusals and measure damage.")
def measure(
    model: Model,
    direction: MaybeDirection = None,
    out: Out = None,
    report_refused: ReportRefused = None,
    report_answered: ReportAnswered = None,
    strength: Strength = None,
    early_stop: EarlyStop = None,
    tasks: Tasks = None,
    system_prompt: System = None,
    chat_template: Template = None,
    device: Device = None,
    dtype: Dtype = None,
    revision: Revision = None,
    trust_remote_code: Remote = None,
    config: Config = None,
    assignments: Set = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Measure refusals and damage on the report prompts, without the edit and with it."""
    from abliterate.ui import verbs

    flags = {
        "prompts.report_refused": report_refused,
        "prompts.report_answered": report_answered,
        "edit.strength": strength,
        "evaluation.early_stop": early_stop,
        "evaluation.tasks": _listed(tasks),
        **_model_flags(system_prompt, chat_template, device, dtype, revision, trust_remote_code),
    }
    verbs.measure(model, direction, out, verbs.settings(config, flags, assignments), force=force, json=json)


@app.command(short_help="Write an edited copy of the model and prove it.")
def bake(
    model: Model,
    direction: DirectionFile,
    out: Out = None,
    strength: Strength = None,
    system_prompt: System = None,
    chat_template: Template = None,
    device: Device = None,
    dtype: Dtype = None,
    revision: Revision = None,
    trust_remote_code: Remote = None,
    config: Config = None,
    assignments: Set = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write an edited copy of the model and prove that it does what the hooks do."""
    from abliterate.ui import verbs

    flags = {
        "edit.strength": strength,
        **_model_flags(system_prompt, chat_template, device, dtype, revision, trust_remote_code),
    }
    verbs.bake(model, direction, out, verbs.settings(config, flags, assignments), force=force, json=json)


@app.command(short_help="Show what writes to the residual stream.")
def inspect(
    model: Model,
    revision: Revision = None,
    trust_remote_code: Remote = None,
    config: Config = None,
    assignments: Set = None,
    json: Json = False,
) -> None:
    """Show the blocks, every tensor that writes to the residual stream, and which edits are exact; needs no weights."""
    from abliterate.ui import verbs

    flags = _model_flags(None, None, None, None, revision, trust_remote_code)
    verbs.inspect(model, verbs.settings(config, flags, assignments), json=json)


@app.command(short_help="Run all of it on a small embedded model.")
def demo(
    out: Out = None,
    config: Config = None,
    assignments: Set = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Run the whole pipeline on a small embedded model that was taught to refuse; needs no model hub."""
    from abliterate.ui import verbs

    verbs.demo(out, verbs.settings(config, {}, assignments), force=force, json=json)


@app.command(short_help="Write the page of a run, or of several side by side.")
def report(
    runs: Annotated[list[Path], typer.Argument(help="Directories of runs, or record.json files.", metavar="RUN...")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The page; report.html or comparison.html.")] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write one self-contained page from the record of a run; given several, compare them on one page."""
    from abliterate.ui import pages

    pages.report(runs, out, force=force, json=json)


@app.command(short_help="Write every plot of a run as SVG or PNG.")
def plot(
    run: Annotated[Path, typer.Argument(help="A run's directory, or its record.json.", metavar="RUN")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The directory; RUN-plots.")] = None,
    kind: Annotated[Literal["svg", "png"], typer.Option("--format", help="svg or png.")] = "svg",
    force: Force = False,
    json: Json = False,
) -> None:
    """Write every plot that the record of a run holds something for."""
    from abliterate.ui import pages

    pages.plot(run, out, kind, force=force, json=json)


def main() -> NoReturn:
    """Run the command line; exit codes: 0 done, 1 a bug, 2 the user's input, 3 verification failed."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = app(standalone_mode=False)
    except UserError as error:
        code = _complain(str(error), 2)
    except VerificationFailed as error:
        code = _complain(f"verification failed: {error}", 3)
    except UsageError as error:
        described = getattr(error, "format_message", error.__str__)()  # with the name of the option
        code = _complain(f"{described.rstrip('.')}; see abliterate --help", 2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:  # typer turns some interrupts into this exit code itself
        _complain("interrupted; the same command takes up where it was", INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _listed(text: str | None) -> list[str] | None:
    """Names between commas; None when the option was not given."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _complain(message: str, code: int) -> int:
    """One line on stderr, whatever the message holds."""
    sys.stderr.write(f"abliterate: {' '.join(message.split())}\n")
    return code


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """Leave through the same door as Ctrl-C, so that half-written directories are removed."""
    raise KeyboardInterrupt


def _model_flags(
    system_prompt: str | None,
    chat_template: Path | None,
    device: str | None,
    dtype: str | None,
    revision: str | None,
    trust_remote_code: bool | None,
) -> dict[str, Any]:
    return {
        "model.system_prompt": system_prompt,
        "model.chat_template": chat_template,
        "model.device": device,
        "model.dtype": dtype,
        "model.revision": revision,
        "model.trust_remote_code": trust_remote_code,
    }
