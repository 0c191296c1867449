"""A prompt that chose something cannot be reported on: the type checker says so, and so does the run."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from abliterate.capture.prompts import Label, PromptSet, Split, split_of
from abliterate.capture.uses import Fit, Report, Select, Used, reportable, take
from abliterate.errors import PromptsError
from abliterate.evals.judges import BuiltinJudge
from abliterate.runs.context import Context
from abliterate.runs.material import Material
from abliterate.runs.variant import Measuring
from abliterate.settings import Settings

ROOT = Path(__file__).parents[2]
Open = Callable[[], Context]

SNIPPET = """
from abliterate.capture.uses import reportable
from abliterate.runs.context import Context
from abliterate.runs.variant import Measuring

def right(run: Context) -> Measuring:
    return Measuring(run, [], run.material.report, {})

def wrong(run: Context) -> Measuring:
    return Measuring(run, [], run.material.select, {})

def worse(run: Context) -> Measuring:
    return Measuring(run, [], run.material.fit, {})

def untyped(run: Context) -> None:
    for texts in run.material.report.values():
        reportable(texts)
        reportable(texts[:4])
"""


def test_measuring_on_what_chose_something_does_not_type_check(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="the type checker is part of the dev extra")
    path = tmp_path / "snippet.py"
    path.write_text(SNIPPET)
    command = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", "--cache-dir", tmp_path, path]
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, env={"MYPYPATH": str(ROOT / "src")}
    )
    lines = SNIPPET.split("\n")
    errors = [line for line in done.stdout.splitlines() if "snippet.py" in line and "error" in line]
    found = {lines[int(line.split(":")[1]) - 1].strip() for line in errors}
    assert found == {line.strip() for line in lines if ".select" in line or ".fit" in line or "[:4]" in line}, done


def test_measuring_on_what_chose_something_raises(context: Open) -> None:
    run = context()
    for prompts in (run.material.select, run.material.fit):
        measuring = Measuring(run, [BuiltinJudge()], prompts, {})  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"only prompts for Report .* are for (Select|Fit)"):
            measuring.of("unedited", None, None)


def test_material_takes_no_prompt_with_two_uses(quick: Settings) -> None:
    material = Material.from_settings(quick)
    chosen = material.select[Label.REFUSED]
    with pytest.raises(TypeError, match="for Select"):
        dataclasses.replace(material, report=material.select)  # type: ignore[arg-type]
    again = {**material.report, Label.REFUSED: Used(Report, chosen)}  # a false claim about the use
    with pytest.raises(PromptsError, match="chose something cannot be reported on"):
        dataclasses.replace(material, report=again)
    with pytest.raises(PromptsError, match="borderline prompts"):
        dataclasses.replace(material, borderline={Label.ANSWERED: Used(Report, chosen), Label.REFUSED: Used(Report)})


def test_a_use_takes_its_own_split() -> None:
    prompts = PromptSet(Label.REFUSED, "s", tuple(f"prompt {i}" for i in range(60)))
    for use, split in ((Fit, Split.FIT), (Select, Split.SELECT), (Report, Split.REPORT)):
        taken = take(prompts, use)
        assert taken.use is use and {split_of(text) for text in taken} == {split}
    with pytest.raises(TypeError, match="no known use"):
        reportable(take(prompts, Report)[:2])  # type: ignore[arg-type]
