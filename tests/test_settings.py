"""File, environment and flags give the same settings; what is unknown is an error."""

from pathlib import Path

import pytest

from abliterate.errors import SettingsError
from abliterate.settings import Settings, resolve


def test_file_environment_and_flag_mean_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[selection]\nkl_limit = 0.2\n")
    by_file = resolve(config=config)
    by_assignment = resolve(assignments=["selection.kl_limit=0.2"])
    by_flag = resolve(flags={"selection.kl_limit": 0.2})
    monkeypatch.setenv("ABLITERATE_SELECTION__KL_LIMIT", "0.2")
    by_environment = resolve()
    assert by_file == by_assignment == by_flag == by_environment != Settings.model_construct()
    assert by_file.selection.kl_limit == 0.2 and by_file.selection.depth == 0.8


def test_a_flag_wins_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[edit]\nstrength = 0.1\n[selection]\nkl_limit = 0.1\ndepth = 0.1\n")
    monkeypatch.setenv("ABLITERATE_SELECTION__KL_LIMIT", "0.2")
    monkeypatch.setenv("ABLITERATE_EDIT__STRENGTH", "0.2")
    settings = resolve(config=config, flags={"edit.strength": 0.3, "prompts.refused": None})
    assert (settings.edit.strength, settings.selection.kl_limit, settings.selection.depth) == (0.3, 0.2, 0.1)
    assert settings.prompts.refused == "builtin"


@pytest.mark.parametrize(
    "texts", [["selection=1"], ["edit.strength=1", "edit.strength.x=1"], ["edit=1", "edit.strength=1"]]
)
def test_a_section_and_a_value_are_told_apart(texts: list[str]) -> None:
    with pytest.raises(SettingsError, match=r"(selection|edit|edit\.strength) is (a section, not a value|given twice)"):
        resolve(assignments=texts)


@pytest.mark.parametrize("text", ["selection.nothing=1", "nothing=1", "edit.strength=3", "edit.strength", "cache.x=1"])
def test_what_is_unknown_or_out_of_range_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(assignments=[text])
    assert text.split("=")[0].split(".")[-1] in str(caught.value)
