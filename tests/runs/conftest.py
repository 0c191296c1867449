"""A model that refuses, and settings that keep a whole run within seconds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from abliterate.runs.context import Context
from abliterate.settings import Settings, resolve
from tests.refusing import refusing_model, write_prompts

QUICK = {
    "prompts.fit_limit": 24,
    "prompts.select_limit": 8,
    "prompts.report_limit": 16,
    "observe.max_new_tokens": 8,
    "observe.minimum": 6,
    "selection.screen_prompts": 3,
    "selection.finalists": 3,
    # A model of 48 dimensions has room for little else than refusing: no direction leaves the rest alone.
    "selection.kl_limit": 20.0,
    "selection.induce_share": -20.0,
    "evaluation.max_new_tokens": 8,
}


@pytest.fixture(scope="session")
def model() -> Path:
    return refusing_model()


@pytest.fixture
def quick(tmp_path: Path) -> Settings:
    refused, answered = write_prompts(tmp_path)
    flags = QUICK | {
        "prompts.refused": str(refused),
        "prompts.answered": str(answered),
        "cache": str(tmp_path / "cache"),
    }
    return resolve(flags=flags)


@pytest.fixture
def context(model: Path, quick: Settings) -> Callable[[], Context]:
    """Opens the same run again each time it is called, as the same command would."""
    return lambda: Context.open(str(model), quick)
