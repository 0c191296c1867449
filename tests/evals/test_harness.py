"""Tasks from a local YAML file, on the model as it stands. Needs the `eval` extra."""

import json
from importlib.util import find_spec

import pytest

from abliterate.edits.edit import Ablate
from abliterate.edits.hooks import edited
from abliterate.errors import MissingExtra, SettingsError
from abliterate.evals import harness
from abliterate.evals.harness import TaskScore, run_tasks
from tests.toys import direction

HAS = find_spec("lm_eval") is not None
needs = pytest.mark.skipif(not HAS, reason="lm-evaluation-harness is not installed (extra `eval`)")
# The harness and what it brings warn of their own affairs.
pytestmark = pytest.mark.filterwarnings("ignore")

YAML = """
task: toy_choice
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: ["yes", "no"]
doc_to_target: answer
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata:
  version: 3.0
"""


@pytest.fixture
def task(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = [{"question": f"Is {i} odd? ", "answer": 1 - i % 2} for i in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "toy_choice.yaml"
    path.write_text(YAML.format(data=tmp_path / "rows.jsonl"))
    return str(path)


@needs
def test_a_local_file_is_run_on_the_model_as_it_stands(llama, task, capsys):
    how = {"limit": None, "batch_size": 4, "seed": 0}
    plain = run_tasks(llama, [task], **how)
    (score,) = plain
    assert (score.task, score.metric, score.n, score.version) == ("toy_choice", "acc,none", 12, "3.0")
    assert 0 <= score.value <= 1 and score.higher_is_better is True and score.error is not None
    with edited(llama, Ablate(direction(llama))):
        run_tasks(llama, [task], **how)
    assert run_tasks(llama, [task], **how) == plain
    assert capsys.readouterr().out == ""
    (few,) = run_tasks(llama, [task], limit=5, batch_size=4, seed=0)
    assert few.n == 5


@needs
@pytest.mark.parametrize("name", ["missing.yaml", "no_such_task_anywhere"])
def test_a_task_that_is_not_there_is_named(llama, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=name):
        run_tasks(llama, [name], limit=1, batch_size=1, seed=0)


@pytest.mark.skipif(HAS, reason="the harness is installed")
def test_without_the_extra_the_message_says_what_to_install(llama):
    with pytest.raises(MissingExtra, match=r"abliterate\[eval\]"):
        run_tasks(llama, ["x.yaml"], limit=1, batch_size=1, seed=0)


def test_every_metric_of_what_the_harness_returns_is_kept():
    results = {
        "results": {
            "a": {"alias": "a", "acc,none": 0.5, "acc_stderr,none": 0.1, "em,strict": 1, "em_stderr,strict": "N/A"},
            "group": {"alias": "group", "acc,none": 0.25},
        },
        "n-samples": {"a": {"original": 9, "effective": 4}},
        "versions": {"a": 1.0},
        "higher_is_better": {"a": {"acc": True}},
    }
    assert harness._scores(results) == [
        TaskScore("a", "acc,none", 0.5, 0.1, 4, "1.0", True),
        TaskScore("a", "em,strict", 1.0, None, 4, "1.0", None),
        TaskScore("group", "acc,none", 0.25, None, 0, "", None),
    ]
