"""What is promised in public is there."""

import ast
import re
from pathlib import Path

import pytest

import abliterate
from tests.refusing import refusing_model

ROOT = Path(__file__).parents[1]


def test_every_public_name_can_be_imported_and_no_other_is_promised() -> None:
    tree = ast.parse(Path(abliterate.__file__).read_text())
    typed = {a.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for a in node.names}
    typed -= {"import_module", "TYPE_CHECKING"}
    assert typed == set(abliterate.__all__)
    for name in abliterate.__all__:
        assert getattr(abliterate, name).__module__.startswith("abliterate.")


def test_the_readme_names_every_folder_and_verb() -> None:
    readme = (ROOT / "README.md").read_text()
    for folder in sorted((ROOT / "src" / "abliterate").iterdir()):
        if folder.is_dir() and not folder.name.startswith("_"):
            assert f"{folder.name}/" in readme
    for verb in ("demo", "run", "inspect", "find", "measure", "bake", "report", "plot"):
        assert f"abliterate {verb}" in readme


def test_the_readmes_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ten lines, on the tiny model, with settings that a tiny model can satisfy."""
    from tests.refusing import write_prompts
    from tests.runs.conftest import QUICK

    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    (code,) = [block for block in blocks if "Context.open" in block]
    refused, answered = write_prompts(tmp_path)
    monkeypatch.chdir(tmp_path)
    for key, value in (QUICK | {"prompts.refused": refused, "prompts.answered": answered, "cache": "cache"}).items():
        monkeypatch.setenv("ABLITERATE_" + key.upper().replace(".", "__"), str(value))
    exec(compile(code.replace("Qwen/Qwen2.5-1.5B-Instruct", str(refusing_model())), "README.md", "exec"), {})
    assert (tmp_path / "edited-model" / "model.safetensors").exists()


def test_the_settings_page_names_every_key_with_its_default() -> None:
    from abliterate.settings import Settings

    page = (ROOT / "docs" / "settings.md").read_text()
    for name, field in Settings.model_fields.items():
        for key, inner in getattr(field.annotation, "model_fields", {}).items():
            shown = "" if inner.default is None else f"`{inner.default}`"
            assert f"| `{name}.{key}` | {shown} | {inner.description} |" in page
