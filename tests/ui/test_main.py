"""The command line as its user meets it: exit codes, one-line complaints, one JSON document, help without torch."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest

from abliterate.ui.main import main
from tests.refusing import refusing_model, write_prompts
from tests.runs.conftest import QUICK

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Run a command in an empty working directory; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ABLITERATE_CACHE", str(tmp_path / "cache"))

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["abliterate", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run


@pytest.fixture(scope="session")
def model() -> Path:
    return refusing_model()


def quick(folder: Path) -> list[str]:
    refused, answered = write_prompts(folder)
    settings = QUICK | {"prompts.refused": f"'{refused}'", "prompts.answered": f"'{answered}'"}
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


def check_refused(result: tuple[int, str, str], *words: str) -> None:
    """Exit code 2 and one line on stderr that names the culprit and the remedy."""
    code, out, err = result
    assert code == 2, err
    assert out == ""
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1 and "Traceback" not in err
    for word in words:
        assert word in lines[0]


def test_a_model_that_does_not_exist(call: Call) -> None:
    check_refused(call("run", "nobody/nothing"), "nobody/nothing", "local directory")
    check_refused(call("run", "./missing"), "there is no directory", "check the path")
    assert not Path("nothing-abliterated").exists()


def test_a_directory_without_weights(call: Call, model: Path) -> None:
    Path("bare").mkdir()
    check_refused(call("run", "bare"), "config.json")
    shutil.copy(model / "config.json", "bare")
    check_refused(call("run", "bare"), "no safetensors weights")


def test_a_tokenizer_without_a_chat_template(call: Call, model: Path) -> None:
    shutil.copytree(model, "plain")
    for path in (Path("plain/chat_template.jinja"), Path("plain/tokenizer_config.json")):
        if path.suffix == ".jinja":
            path.unlink(missing_ok=True)
        else:
            config = json.loads(path.read_text())
            config.pop("chat_template", None)
            path.write_text(json.dumps(config))
    for verb in ("run", "find", "measure"):
        check_refused(call(verb, "plain"), "no chat template", "--chat-template")
    assert call("inspect", "plain")[0] == 0  # it needs no tokenizer


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.jsonl", b"", ("empty.jsonl", "no prompts")),
        ("binary.txt", b"fine\n\x00\xff\xfe", ("binary.txt", "line 2")),
        ("wrong.jsonl", b'{"prompt": "a", "label": "refused"}\n{"prompt": "b", "label": "bad"}', ("line 2", "'bad'")),
        ("broken.jsonl", b'{"prompt": "a"}\n{"prompt":', ("line 2", "JSON")),
        ("odd.docx", b"text", ("docx", ".jsonl")),
    ],
)
def test_unusable_prompt_files_are_named_with_the_line(
    call: Call, model: Path, name: str, content: bytes, words: tuple[str, ...]
) -> None:
    Path(name).write_bytes(content)
    check_refused(call("run", model, "--refused", name), *words)


def test_a_prompt_file_that_is_missing(call: Call, model: Path) -> None:
    check_refused(call("run", model, "--refused", "missing.jsonl"), "missing.jsonl")


def test_a_hub_data_set_out_of_reach_is_told_in_one_line(
    call: Call, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_dataset(name: str, split: str) -> None:
        aloud = logging.getLogger("huggingface_hub.utils._http").isEnabledFor(logging.WARNING)
        raise ConnectionError("each retry is a line" if aloud else "no route to host")

    huggingface_hub.logging.set_verbosity_warning()  # its default
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    check_refused(call("run", model, "--refused", "owner/name:train[:400]"), "owner/name", "no route", "local file")


def test_a_direction_that_is_none(call: Call, model: Path) -> None:
    Path("d.safetensors").write_bytes(b"not a direction")
    check_refused(call("bake", model, "d.safetensors"), "d.safetensors", "abliterate find")
    check_refused(call("measure", model, "missing.safetensors"), "missing.safetensors")


def test_an_output_that_exists(call: Call, model: Path) -> None:
    Path("out").mkdir()
    check_refused(call("run", model, "-o", "out"), "out exists already", "--force")


@pytest.mark.parametrize("out", ["file/out", "link", ".", ".."])
def test_an_output_that_cannot_be_made_is_noticed_before_work_begins(call: Call, model: Path, out: str) -> None:
    Path("file").write_text("")
    Path("earlier").mkdir()
    Path("record.json").write_text("{}")  # as in a directory that --force may replace
    Path("link").symlink_to("earlier")
    check_refused(call("run", model, "-o", out, "--force", "--refused", "missing.txt"), out.split("/")[0], "-o")


def test_a_cache_that_cannot_be_made_is_noticed_before_work_begins(call: Call, model: Path, tmp_path: Path) -> None:
    Path("file").write_text("")
    refused = call("find", model, *quick(tmp_path), "--set", "cache=file/cache")
    check_refused(refused, "file is not a directory", "--set cache=DIR")


def test_a_demo_without_room_is_noticed_before_the_download(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 200_000_000))
    check_refused(call("demo", "-o", "out"), "out needs", "-o")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 500_000_000))
    check_refused(call("demo", "-o", "out"), "cache", "needs 1.20 GB", "--set cache=DIR")


def test_a_disk_without_room_is_noticed_before_work_begins(
    call: Call, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1))
    check_refused(call("run", model, "-o", "out", *quick(tmp_path)), "GB free", "-o")
    assert not Path("out").exists() and not (tmp_path / "cache" / "runs").exists()


def test_settings_that_do_not_exist(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("config.toml").write_text("[selection]\nkl_limt = 1")
    check_refused(call("run", "x", "--config", "config.toml"), "selection.kl_limt", "selection.kl_limit")
    check_refused(call("run", "x", "--set", "edit.force=1"), "edit.force")
    check_refused(call("run", "x", "--set", "edit.strength=7"), "edit.strength")
    check_refused(call("run", "x", "--strength", "-1"), "edit.strength")
    check_refused(call("run", "x", "--config", "none.toml"), "none.toml")
    monkeypatch.setenv("ABLITERATE_SELECTION__KL_LIMT", "1")
    check_refused(call("run", "x"), "ABLITERATE_SELECTION__KL_LIMT")


def test_words_the_command_line_does_not_know(call: Call) -> None:
    check_refused(call("frobnicate"), "frobnicate")
    check_refused(call("run"), "--help")
    check_refused(call("run", "x", "--frob"), "--frob")
    check_refused(call("run", "x", "--strength", "much"), "--strength", "number")


def test_inspect_shows_the_writers(call: Call, model: Path) -> None:
    code, out, _ = call("inspect", model)
    assert code == 0 and "mlp.down_proj" in out
    assert max(map(len, out.splitlines()[1:])) <= 80
    code, out, _ = call("inspect", model, "--json")
    assert code == 0 and [row["tensors"] for row in json.loads(out)["rows"]] == [1, 5, 5]


def test_json_is_one_document_on_stdout(call: Call, model: Path, tmp_path: Path) -> None:
    code, out, err = call("run", model, "-o", "out", "--json", *quick(tmp_path))
    assert code == 0, err
    assert json.loads(out) == json.loads(Path("out/record.json").read_text())


def test_a_run_tells_what_it_found(call: Call, model: Path, tmp_path: Path) -> None:
    code, out, err = call("run", model, "-o", "out", *quick(tmp_path))
    assert code == 0, err
    assert "random direction" in out and "Proof" in out and "Written to out" in out


CTRL_C_IN_THE_MIDDLE = """
import os, signal, time
from abliterate.runs import results
from abliterate.ui.main import main

def interrupted(*_):  # when the model's directory is half written
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's shell has it ignored
results.prove = interrupted
main()
"""


def test_ctrl_c_leaves_no_directory_and_the_same_command_goes_on(model: Path, tmp_path: Path) -> None:
    arguments = ["run", str(model), "-o", "out", *quick(tmp_path)]
    environment = os.environ | {"ABLITERATE_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}

    def call(code: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    stopped = call(CTRL_C_IN_THE_MIDDLE)
    assert stopped.returncode == 130, stopped.stderr
    assert "interrupted" in stopped.stderr
    assert not [p for p in tmp_path.iterdir() if "out" in p.name]
    again = call("from abliterate.ui.main import main; main()")
    assert again.returncode == 0, again.stderr
    assert "observe: taken up from an earlier run" in again.stderr
    assert (tmp_path / "out" / "model" / "config.json").exists()


def test_help_imports_no_torch() -> None:
    code = "import sys, abliterate.ui.main; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
