"""The report: the right words for whatever the record holds, everything escaped, nothing loaded."""

import base64
import functools
import hashlib
from html.parser import HTMLParser
from pathlib import Path

import pytest

from abliterate.directions.stability import Stability
from abliterate.evals.scores import Outcomes
from abliterate.evals.statistics import wilson
from abliterate.reports.cautions import HELD_OUT, cautions
from abliterate.reports.formats import format_mean
from abliterate.reports.headline import headline
from abliterate.reports.html import render_report
from abliterate.reports.record import RunRecord
from abliterate.reports.verdict import verdict
from tests.reports.records import (
    ATTACK,
    Mean,
    bake_record,
    find_record,
    full_record,
    measure_record,
    outcomes,
    rich_record,
    samples,
)

RECORDS = {"run": full_record, "rich": rich_record, "find": find_record, "measure": measure_record, "bake": bake_record}


class Page(HTMLParser):
    """Elements with their attributes, text by element, and whether every element that was opened was closed."""

    VOID = ("meta", "br", "link", "img", "input")

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.texts = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).replace("\u00a0", " ").split())


def page(record):
    return Page(render_report(record))


@functools.cache
def rendered(kind):
    """Drawing takes most of the time of these tests, and they read the same four pages."""
    return render_report(RECORDS[kind]())


def replaced(record, variant, **changes):
    """The record with one variant's scores changed."""
    scores = [s.model_copy(update=changes) if s.variant == variant else s for s in record.scores]
    return record.model_copy(update={"scores": scores})


@pytest.mark.parametrize("kind", RECORDS)
def test_every_kind_of_record_gives_a_whole_page(kind):
    read = Page(rendered(kind))
    assert read.open == []
    assert [tag for tag, _ in read.tags].count("h1") == 1
    assert "None" not in read.text and "nan" not in read.text.split()


@pytest.mark.parametrize("kind", RECORDS)
def test_a_page_loads_nothing(kind):
    read = Page(rendered(kind))
    assert not {tag for tag, _ in read.tags} & {"link", "img", "iframe", "image", "object"}
    for _, attributes in read.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href", "srcset"):
            assert (attributes.get(name) or "#").startswith("#")
    html = rendered(kind)
    assert html.count("<script") == (kind == "rich")
    assert "@import" not in html and "url(http" not in html and "default-src 'none'" in html


def test_the_words_of_model_and_prompts_are_escaped():
    words = [s.model_copy(update={"prompt": ATTACK, "before": ATTACK}) for s in samples()[:3]]
    model = full_record().model.model_copy(update={"source": f"/tmp/{ATTACK}", "revision": "local"})
    record = full_record(samples=words, model=model)
    html = render_report(record)
    assert "<script" not in html and "<img" not in html
    assert page(record).text.count(ATTACK) >= 4


def test_openings_are_escaped():
    seen = full_record().observed
    openings = type(seen.openings)((1,), ("<b>'&",), 0.9, 0.1, 0.99, 3.0, -5.0)
    record = full_record(observed=seen.model_copy(update={"openings": openings}))
    assert not [tag for tag, attributes in page(record).tags if tag == "b" and "class" not in attributes]


@pytest.mark.parametrize("kind", RECORDS)
def test_the_same_record_gives_the_same_bytes_after_a_round_trip_too(kind, tmp_path):
    RECORDS[kind]().save(tmp_path / "record.json")
    assert render_report(RunRecord.load(tmp_path / "record.json")) == rendered(kind)


def test_the_verdict_of_a_full_run():
    assert verdict(full_record())[:2] == [
        "Edited, example-lab/Example-1.5B-Instruct refuses 2 of 117 (1.7 % [0.5, 6.0]) of the prompts it was expected"
        " to refuse, from 112 (95.7 % [90.4, 98.2]), and complies with 113, from 4.",
        "A random direction of the same size, removed in the same way, leaves 111 of 117 (94.9 % [89.3, 97.6])"
        " refused.",
    ]
    text = " ".join(verdict(full_record()))
    assert "expected to answer it refuses 0 of 120 (0.0 % [0.0, 3.1]), from 2 (1.7 % [0.5, 5.9])." in text
    assert "a KL of 0.031 [0.024, 0.040] nats and whole completions by 0.052 [0.044, 0.061] nats a token" in text
    assert "2 of all 237 completions are broken (empty, looping or unreadable), from 0." in text
    assert "at most 2.3 × 10⁻⁴ of the stream lies along the direction, from 0.62" in text
    assert "logits are within 0.22 % of the hooked model’s (allowed: 1.6 %)" in text
    assert "overlap" not in text and "does not come from this direction" not in text


def test_the_verdict_says_when_the_edit_shows_no_effect():
    record = replaced(full_record(), "edited", refused=outcomes(108, 9))
    assert any("intervals overlap" in sentence for sentence in verdict(record))


def test_the_verdict_says_when_any_direction_would_do():
    record = replaced(full_record(), "random", refused=outcomes(60, 57))
    assert any("part of the effect does not come from this direction" in sentence for sentence in verdict(record))


def test_the_verdict_says_the_strength_unless_it_is_one():
    assert verdict(full_record(strength=0.5))[0].startswith("Edited at strength 0.5, ")


def test_the_verdict_without_drift_and_without_the_unedited_model():
    record = replaced(full_record(), "edited", drift=None)
    assert "How far the edit moves those answers was not measured." in verdict(record)
    alone = full_record(scores=[s for s in full_record().scores if s.variant == "edited"], proof=None)
    assert verdict(alone)[0].endswith("and complies with 113.")
    assert not any(", from" in sentence or "random" in sentence for sentence in verdict(alone))


def test_the_verdict_of_no_prompts_is_no_data():
    record = replaced(full_record(), "edited", refused=Outcomes(0, *(wilson(0, 0) for _ in range(4))))
    assert "0 of 0 (no data)" in verdict(record)[0]
    assert page(record).open == []


def test_the_verdict_of_a_find():
    assert verdict(find_record()) == [
        "A refusal direction of example-lab/Example-1.5B-Instruct was found at position −2, at the input of"
        " layer 15 of 28.",
        "On the prompts it was selected with, removing it brings the refusal score to −11.30 log-odds, adding it brings"
        " that of answered prompts to 6.25, and removing it moves their first token by a KL of 0.018 nats.",
        "What the edit does to refusals and answers on held-out prompts was not measured in this run.",
    ]
    assert "holds neither" in verdict(find_record(chosen=None))[0]


def test_the_verdict_of_a_measure_without_edit():
    text = " ".join(verdict(measure_record()))
    assert text.startswith("Unedited, example-lab/Example-1.5B-Instruct refuses 112 of 117 (95.7 % [90.4, 98.2])")
    assert text.endswith("No edit was measured.")


def test_sections_appear_only_with_what_they_show():
    headings = {
        "Refusals and damage": {"run", "rich", "measure"},
        "Where the direction was sought": {"run", "rich", "find"},
        "Proof of the written model": {"run", "rich", "bake"},
        "What the model itself did": {"run", "rich", "find"},
        "Candidates": {"run", "rich", "find"},
        "Completions": {"run", "rich", "measure"},
        "Where the prompts lie": {"rich"},
    }
    for name in RECORDS:
        html = rendered(name)
        assert {h for h, kinds in headings.items() if name in kinds} == {h for h in headings if f"<h2>{h}</h2>" in html}


def test_a_full_page_shows_its_figures():
    text = Page(rendered("run")).text
    for words in (
        "0.052 [0.044, 0.061]",
        "0.0039 allowed",
        '"I" , "Sorry" , " As"',
        "it refused 121 of the 128 fit prompts",
        "KL 0.148 > 0.1",
        "115 more candidates",
        "48 more completions",
        "selection.kl_limit",
        "torch 2.9.1",
        "21 min 53 s",
        "responsible for what it is used for",
    ):
        assert words in text, words


def test_the_best_candidates_come_first():
    html = rendered("run")
    order = [
        html.index(f"<td>{verdict}</td>")
        for verdict in ("chosen", "passed", "KL 0.148 &gt; 0.1", "screened out", "too deep")
    ]
    assert order == sorted(order)
    assert html.index("more candidates") < order[-1]


def test_completions_stand_side_by_side_only_where_there_was_an_edit():
    assert "edited · <b" in rendered("run").replace("unedited", "")
    assert "edited · <b" not in rendered("measure").replace("unedited", "")


def test_failures_are_not_left_out_of_the_samples():
    shown = rendered("run").split("more completions")[0]
    assert "number 5 that" in shown and 'edited · <b class="refused">' in shown.replace("unedited", "")


def test_a_page_holds_no_absolute_path():
    settings = full_record().settings
    settings = {
        **settings,
        "cache": "/home/someone/.cache",
        "prompts": {**settings["prompts"], "refused": "/home/someone/mine.txt"},
        "model": {**settings["model"], "system_prompt": "/no_think"},
    }
    prompts = full_record().prompts.model_copy(update={"sources": {"refused": "C:\\Users\\someone\\mine.txt"}})
    text = page(bake_record(settings=settings, prompts=prompts)).text
    assert "someone" not in text and "cache" not in text.split()
    assert "my-model" in text and "mine.txt" in text and "/no_think" in text


def test_small_means_keep_their_figures():
    assert format_mean(Mean(0.0004, 10, 0.0003, 0.0006)) == "0.00040 [0.00030, 0.00060]"
    assert format_mean(Mean(0.031, 10, 0.024, 0.04)) == "0.031 [0.024, 0.040]"


def test_only_the_pages_own_script_may_run():
    html = rendered("rich")
    script = html.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html


def test_every_layer_is_readable_without_the_script():
    text = Page(rendered("rich")).text
    assert all(f"layer {layer}" in text for layer in range(1, 28)) and "layer 15, the chosen one" in text
    assert rendered("rich").count('aria-label="Layer ') == 27


def test_the_headline_says_what_changed_and_what_did_not():
    found = {f.name: f for f in headline(full_record())}
    assert found["refuses what it was expected to refuse"].change == "changed (intervals lie apart)"
    assert found["refuses what it was expected to answer"].change == "no change shown (intervals overlap)"
    assert not headline(find_record()) and not any(f.change for f in headline(measure_record()))


def test_the_headline_tests_pairs_where_the_record_holds_them_all():
    counts = {"unedited": outcomes(30, 0), "edited": outcomes(1, 29)}
    scores = [s.model_copy(update={"refused": counts[s.variant]}) for s in full_record().scores if s.variant in counts]
    first, *_ = headline(full_record(scores=scores))
    assert first.change == "changed (McNemar, p < 0.001)"


def test_cautions_name_what_is_weak():
    few = replaced(full_record(), "edited", refused=outcomes(2, 28), drift=None)
    few = few.model_copy(update={"scores": [s for s in few.scores if s.variant != "random"], "proof": None})
    text = " ".join(cautions(few))
    for words in ("Only 30 prompts", "built-in judge", "No random direction", "harmless answers was not", "No written"):
        assert words in text, words
    hooks = full_record(model=full_record().model.model_copy(update={"obstacle": "a fused kernel"}), proof=None)
    assert "exact by hooks only, and no model was written: a fused kernel." in " ".join(cautions(hooks))
    assert "hf:some/judge, whose precision" in " ".join(cautions(judged_by("hf:some/judge")))
    seen = full_record().observed.model_copy(update={"kept_refused": 12})
    assert "12 refused and 127 answered" in " ".join(cautions(full_record(observed=seen)))
    weak = replaced(full_record(), "random", refused=outcomes(60, 57))
    assert "not this direction" in " ".join(cautions(weak))
    assert cautions(bake_record()) == []


def judged_by(name):
    settings = full_record().settings
    return full_record(settings={**settings, "evaluation": {**settings["evaluation"], "judges": [name]}})


def test_the_judges_figures_are_those_of_its_page():
    page = (Path(__file__).parents[2] / "docs" / "judges.md").read_text()
    for outcome, (precision, recall) in HELD_OUT.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| {outcome} | held out |"))
        assert row.endswith(f"| {precision:.3f} | {recall:.3f} |")


def test_a_long_completion_is_cut_until_asked_for():
    long = [samples()[0].model_copy(update={"after": "word " * 400})]
    html = render_report(full_record(samples=long))
    assert "the rest, 1601 characters" in html and html.count("word ") == 400


def test_a_record_from_before_geometry_still_renders():
    old = full_record().model_dump(mode="json")
    del old["geometry"]
    for scores in old["scores"]:
        del scores["by_token"]
    del old["settings"]["evaluation"]["judges"]
    assert render_report(RunRecord.model_validate(old)).startswith("<!doctype html>")


def test_what_was_measured_beside_the_outcomes_is_shown():
    text = Page(rendered("rich")).text
    for words in (
        "refusals of prompts labelled refused unedited and edited −94.0",
        "over-refusal safe, refused unsafe, refused Youden’s J",
        "tokens of an answer",
        "agree on 93.0 % of 237 (Cohen’s kappa 0.86)",
        "mean over 16 halvings",
        "hellaswag acc,none 0.610 ± 0.012 0.590 ± 0.012",
        "refuses safe prompts that sound alarming 3.3 % from 15.0 %",
        "Refusals of safe borderline prompts: 60 prompts do not settle",
    ):
        assert words in text, words


def test_an_unsteady_direction_is_named():
    unsteady = rich_record().sensitivity.model_copy(update={"stability": [Stability(-2, 15, 0.4, 0.1)]})
    assert any("cosine of 0.40 only" in sentence for sentence in cautions(rich_record(sensitivity=unsteady)))


def test_five_hundred_examples_weigh_no_more_than_three_megabytes():
    long = [s.model_copy(update={"before": "word " * 200, "after": "word " * 200}) for s in samples()]
    many = (long * 9)[:500]
    assert len(many) == 500
    assert len(render_report(rich_record(samples=many)).encode()) <= 3_000_000
