"""The main job on a real language model, from the command line: what the README shows, held to its claims."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from abliterate.directions.direction import Direction
from abliterate.reports.record import RunRecord

pytestmark = [pytest.mark.demo, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `abliterate demo` leaves, from a process of its own with all of this machine's threads."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "ABLITERATE_EVALUATION__SEED")}
    command = [Path(sys.executable).with_name("abliterate"), "demo", "--out", folder]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "refused" in done.stdout
    return folder


@pytest.fixture(scope="module")
def record(out: Path) -> RunRecord:
    return RunRecord.load(out / "record.json")


def test_it_refused_and_refuses_no_more(record: RunRecord) -> None:
    before, after = record.of("unedited"), record.of("edited")
    assert before.refused.refused.rate >= 0.90
    assert before.answered.refused.rate <= 0.05
    assert after.refused.refused.rate <= 0.03
    assert after.answered.refused.rate <= 0.05


def test_little_else_changed(record: RunRecord) -> None:
    drift = record.of("edited").drift
    assert drift.first_token.mean <= 0.05
    assert drift.completion.mean <= 0.05


def test_a_random_direction_does_nothing_to_refusal(record: RunRecord) -> None:
    before, control = record.of("unedited").refused.refused, record.of("random").refused.refused
    assert before.low <= control.rate <= before.high


def test_its_refusals_are_no_canned_sentence(record: RunRecord) -> None:
    refusals = Counter(sample.before for sample in record.samples if sample.before_outcome == "refused")
    openings = {" ".join(text.split()[:3]) for text in refusals}
    assert len(refusals) >= refusals.total() / 3
    assert max(refusals.values()) <= refusals.total() / 3
    assert len(openings) >= 8


def test_plain_transformers_loads_what_was_written(out: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(out / "model")
    model = AutoModelForCausalLM.from_pretrained(out / "model")
    assert model.dtype == torch.bfloat16
    chat = [{"role": "user", "content": "Why is the sky blue?"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**ids, max_new_tokens=8, do_sample=False)
    assert tokenizer.decode(answer[0, ids["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def test_what_is_written_holds_no_component_of_the_direction(out: Path) -> None:
    direction = Direction.load(out / "direction.safetensors").basis[0].double()
    embedding = load_file(out / "model" / "model.safetensors")["model.embed_tokens.weight"].double()
    rounding = torch.finfo(torch.bfloat16).eps / 2  # of each of the 576 entries, independently
    assert ((embedding @ direction).abs() <= rounding * embedding.norm(dim=-1) * 2).all()
