"""Inspect runs a task of its own on the hooked model. Needs the `eval` extra."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from abliterate.capture.chat import Chat
from abliterate.capture.forward import complete
from abliterate.edits.edit import Ablate
from abliterate.edits.hooks import edited
from tests.toys import direction

pytestmark = pytest.mark.skipif(find_spec("inspect_ai") is None, reason="Inspect is not installed (extra `eval`)")

# In a process of its own: Inspect leaves streams open behind it, which pytest would call an error.
SCRIPT = """
import json, sys
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.scorer import includes
from abliterate.ui import inspect_provider  # registers it, as the entry point does

directory, arguments = sys.argv[1], json.loads(sys.argv[2])
task = Task(dataset=[Sample("Why?", target="x")], scorer=includes(), config=GenerateConfig(max_tokens=6))
(log,) = eval(task, model=get_model(f"abliterate/{directory}", **arguments), display="none", log_dir=".")
assert log.status == "success", log.error
print(json.dumps(log.samples[0].output.completion))
"""


@pytest.mark.parametrize("with_edit", [False, True])
def test_a_task_is_run_on_the_model_with_its_edit(llama, tmp_path, with_edit):
    edit = Ablate(direction(llama))
    edit.direction.save(tmp_path / "direction.safetensors")
    arguments = {"direction": "direction.safetensors", "device": "cpu"} if with_edit else {"device": "cpu"}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(llama.directory), json.dumps(arguments)]
    paths = os.pathsep.join(str(Path(p).resolve()) for p in sys.path if p)
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    sequences = Chat(llama.tokenizer).encode(["Why?"])
    (plain,) = complete(llama, sequences, max_new_tokens=6)
    with edited(llama, edit):
        (changed,) = complete(llama, sequences, max_new_tokens=6)
    assert plain.text != changed.text
    assert json.loads(done.stdout.splitlines()[-1]) == (changed if with_edit else plain).text
