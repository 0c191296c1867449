"""Several runs on one page: figures beside each other, what differs, and what forbids the comparison."""

import pytest

from abliterate.reports.compare import incomparable, render_comparison
from tests.reports.records import find_record, full_record, measure_record, rich_record
from tests.reports.test_html import Page, judged_by


def test_a_comparison_names_every_run_with_its_figures_and_weak_spots():
    html = render_comparison({"first": rich_record(), "half": full_record(strength=0.5)})
    page = Page(html)
    assert page.open == [] and "<script" not in html
    for words in ("2 runs compared", "the figures can be set beside each other", "first", "half", "Edited at strength"):
        assert words in page.text, words
    assert page.text.count("2 of 117, [0.5, 6.0] %") == 2 and page.text.count("built-in judge") == 2
    assert "refuses safe prompts that sound alarming run before after 0 to 100 % first 15.0 %" in page.text


def test_only_what_differs_is_listed():
    text = Page(render_comparison({"a": full_record(), "b": full_record(strength=0.5)})).text
    assert "fact or setting a b strength 1.0 0.5" in text and "selection.kl_limit" not in text
    assert "Nothing that the records hold" in Page(render_comparison({"a": full_record(), "b": full_record()})).text


def test_what_forbids_a_comparison_is_said():
    prompts = full_record().prompts.model_copy(update={"hash": "another"})
    model = full_record().model.model_copy(update={"source": "other/model", "template_hash": "x"})
    for other, words in (
        (full_record(prompts=prompts), "different prompts"),
        (judged_by("hf:some/judge"), "different judges"),
        (full_record(model=model), "models are different"),
        (full_record(tool_version="9"), "different versions"),
    ):
        assert any(words in sentence for sentence in incomparable({"a": full_record(), "b": other}))
    assert incomparable({"a": full_record(), "b": full_record(strength=0.5)}) == []


def test_runs_that_measured_nothing_or_no_edit_have_their_place():
    text = Page(render_comparison({"found": find_record(), "as it is": measure_record(), "full": full_record()})).text
    assert "found" in text and "as it is – 95.7 % 112 of 117, [90.4, 98.2] %" in text


def test_names_are_escaped_and_one_run_is_no_comparison():
    html = render_comparison({"<script>x</script>": full_record(), "b": full_record()})
    assert "<script" not in html
    with pytest.raises(ValueError, match="two runs"):
        render_comparison({"a": full_record()})
