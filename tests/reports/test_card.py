"""The model card: says first that the model is edited, with figures, and leads back to how it was made."""

import shlex
import tomllib

import pytest
from huggingface_hub import ModelCard

from abliterate.reports.card import render_card, reproduction
from abliterate.settings import resolve
from tests.reports.records import bake_record, full_record, measure_record, rich_record


def changed(record, section, **values):
    settings = {**record.settings, section: {**record.settings[section], **values}}
    return record.model_copy(update={"settings": settings})


def local(source):
    return full_record(model=full_record().model.model_copy(update={"source": source, "revision": "local"}))


def test_the_front_matter_of_a_hub_model():
    data = ModelCard(render_card(full_record())).data
    assert data.base_model == "example-lab/Example-1.5B-Instruct"
    assert data.base_model_relation == "finetune"
    assert data.library_name == "transformers" and data.pipeline_tag == "text-generation"
    assert data.tags == ["abliterated", "abliterate", "refusal-ablation"]


@pytest.mark.parametrize("source", ["/home/someone/models/my-model", "models/my-model", "C:\\models\\my-model", "."])
def test_a_local_model_is_named_by_its_directory_alone(source):
    card = render_card(local(source))
    assert ModelCard(card).data.base_model is None
    assert ("`my-model`" if len(source) > 1 else "`model`") in card
    assert "someone" not in card and "models" not in card and "huggingface.co" not in card


def test_a_card_says_first_that_the_model_is_edited():
    text = ModelCard(render_card(full_record())).text.strip()
    title, first = text.split("\n\n")[:2]
    assert title == "# example-lab/Example-1.5B-Instruct, edited: refusal direction ablated"
    assert first.startswith("**This is an edited model, not the one its makers released.**")
    assert "abliterate 0.1.0" in first


def test_a_card_of_a_partial_edit_says_so():
    card = render_card(full_record(strength=0.5))
    assert "refusal direction ablated at strength 0.5" in card and "was scaled in the weights" in card


def test_a_card_gives_figures_damage_proof_and_limits():
    card = render_card(full_record())
    for words in (
        "refuses 2 of 117 (1.7 % [0.5, 6.0])",
        "| edited | 2: 1.7 % [0.5, 6.0] | 113: 96.6 % [91.5, 98.7] |",
        "| edited | 0.031 [0.024, 0.040] | 0.052 [0.044, 0.061] | 120 |",
        "| largest component along the direction, share of the stream | 2.3 × 10⁻⁴ | 0.62 unedited |",
        "position -2 from the end of the chat template, input of block 15 of 28",
        "`0123456789abcdef0123456789abcdef01234567`",
        "safety behaviour was changed on purpose",
        "evaluate it for your own use first",
        "licence and the terms of the base model apply",
        "AutoModelForCausalLM.from_pretrained(path",
        "under `abliterate`",
    ):
        assert words in card, words


def test_a_card_shows_no_completions():
    assert "Sourdough" not in render_card(full_record())


def test_a_card_without_scores_says_so():
    card = render_card(bake_record())
    assert "not measured in this run" in card and "Measure it with `abliterate measure`" in card
    assert "| | refused" not in card and "## Proof" in card


def test_every_table_row_has_as_many_cells_as_its_header():
    for record in (full_record(), rich_record(), bake_record(), measure_record()):
        blocks = [b for b in render_card(record).split("\n\n") if b.lstrip("\n").startswith("|")]
        assert blocks
        for block in blocks:
            assert len({line.count("|") for line in block.strip().splitlines() if line.startswith("|")}) == 1


def test_names_are_no_markup():
    card = render_card(local("/tmp/<script>`x`|*y*\n# z"))
    head = card.split("## What changed")[0]
    assert "<script>" not in head.replace("`<script> x *y* # z`", "")
    assert "\n# z" not in card
    assert len([line for line in card.splitlines() if line.startswith("# ")]) == 1


def test_the_command_is_the_run_again():
    record = changed(full_record(), "selection", kl_limit=0.2)
    record = changed(record, "model", system_prompt="/no_think --set `x`", revision="main")
    record = changed(record, "prompts", refused="/home/someone/mine.txt")
    words = shlex.split(reproduction(record).replace("\\\n", " "))
    assert words[:5] == ["abliterate", "run", record.model.source, "--revision", record.model.revision]
    given = resolve(assignments=[word for word in words[5:] if word != "--set"])
    assert given.selection.kl_limit == 0.2
    assert given.model.system_prompt == "/no_think --set `x`"
    assert given.prompts.refused == "mine.txt"
    assert given.model.revision is None
    assert "```" not in reproduction(changed(full_record(), "model", system_prompt="```"))


def test_the_command_of_defaults_is_short_and_that_of_bake_names_the_direction(monkeypatch):
    record, baked = full_record(), bake_record()
    monkeypatch.setenv("ABLITERATE_SELECTION__KL_LIMIT", "0.3")  # where the card is written, not where the run was
    assert "kl_limit" not in reproduction(record) and reproduction(record).count("\n") == 1
    assert reproduction(baked) == "abliterate bake my-model direction.safetensors"
    assert "edit.strength=0.5" in reproduction(full_record(strength=0.5))


def test_values_are_toml():
    command = reproduction(changed(full_record(), "model", trust_remote_code=True, system_prompt='say "ö\n'))
    values = [word for word in shlex.split(command.replace("\\\n", " ")) if "=" in word]
    assert tomllib.loads("\n".join(values))["model"] == {"trust_remote_code": True, "system_prompt": 'say "ö\n'}


def test_remote_code_is_asked_for_where_the_model_needs_it():
    assert "trust_remote_code=True)" in render_card(changed(full_record(), "model", trust_remote_code=True))
    assert "trust_remote_code" not in render_card(full_record())


def test_the_same_record_gives_the_same_bytes():
    assert render_card(full_record()) == render_card(full_record())


def test_a_card_says_how_to_undo_the_edit():
    undo = render_card(full_record()).split("## How to undo it")[1].split("\n## ")[0]
    assert "load [example-lab/Example-1.5B-Instruct]" in undo and "at revision `0123456789abcdef" in undo
    assert "cannot be turned\nback by themselves" in undo and "direction.safetensors" in undo


def test_a_card_gives_over_refusal_and_says_what_is_weak():
    card = render_card(rich_record())
    assert "| edited | 2: 3.3 % [0.9, 11.4] | 3: 5.0 % [1.7, 13.7] | +0.017 [−0.070, +0.107] |" in card
    limits = card.split("## Limits")[1].split("## How")[0]
    assert "built-in judge" in limits and "do not settle" in limits
