"""The figures: valid SVG that can stand in a page with others, the same every time, with what they claim to show."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from abliterate.reports.plots import candidate_map, outcome_bars, separation_by_layer
from tests.reports.records import candidates, find_record, full_record, measure_record, outcomes

FIGURES = [candidate_map, outcome_bars, separation_by_layer]


def texts(svg):
    return [
        " ".join("".join(e.itertext()).split()) for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("text")
    ]


@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_is_an_svg_element_without_prolog_size_or_date(figure):
    svg = figure(full_record())
    root = ElementTree.fromstring(svg)
    assert svg.startswith("<svg ") and root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "viewBox" in root.attrib and "width" not in root.attrib and "height" not in root.attrib
    assert root.attrib["role"] == "img" and root.attrib["aria-label"]
    assert "<metadata" not in svg and "<!--" not in svg and "matplotlib.org" not in svg


@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_holds_letters_and_no_bitmap(figure):
    svg = figure(full_record())
    assert texts(svg)
    assert "<image" not in svg and "data:" not in svg


@pytest.mark.parametrize("figure", FIGURES)
def test_the_same_record_gives_the_same_bytes(figure):
    assert figure(full_record()) == figure(full_record())


def test_a_users_matplotlibrc_changes_nothing_and_is_left_alone():
    import matplotlib

    before = outcome_bars(full_record())
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.grid": True}):
        assert outcome_bars(full_record()) == before
        assert matplotlib.rcParams["font.size"] == 30


def test_figures_on_one_page_share_no_id_and_no_style():
    page = "".join(figure(full_record()) for figure in FIGURES)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', page))
    assert used and {a or b for a, b in used} <= set(ids)
    for rule in re.findall(r"<style[^>]*>(.*?)</style>", page):
        assert rule.startswith("#")


@pytest.mark.parametrize("figure", FIGURES)
def test_lines_and_letters_take_the_colour_of_the_page(figure):
    svg = figure(full_record())
    assert "currentColor" in svg
    assert "#010203" not in svg


def test_the_map_colours_scores_marks_the_choice_and_hatches_what_was_excluded():
    words = texts(candidate_map(full_record()))
    assert "refusal score under ablation (log-odds)" in words
    assert {"chosen", "excluded: too deep", "measured on all select prompts"} <= set(words)
    assert {"−5", "−1"} <= set(words)
    assert any(word.startswith("layer (block") for word in words)


def test_the_map_falls_back_to_separation():
    words = texts(candidate_map(find_record(candidates=candidates(scored=False), chosen=None)))
    assert "separation (AUROC)" in words
    assert not {"chosen", "excluded: too deep", "refusal score under ablation (log-odds)"} & set(words)


def test_the_map_bears_a_score_that_is_no_number():
    import dataclasses

    table = [dataclasses.replace(c, screen=float("nan"), bypass=None) for c in candidates()]
    assert "separation (AUROC)" in texts(candidate_map(find_record(candidates=table)))


@pytest.mark.parametrize(("layers", "count"), [(1, 1), (1, 2), (81, 3)])
def test_the_map_of_few_and_many_layers(layers, count):
    from abliterate.directions.select import Candidate

    record = find_record(candidates=[Candidate(-1, layer, 1.0, 0.9) for layer in range(layers)][:count], chosen=None)
    ElementTree.fromstring(candidate_map(record))
    ElementTree.fromstring(separation_by_layer(record))


def test_the_bars_say_every_variant_with_counts_and_intervals():
    words = texts(outcome_bars(full_record()))
    assert words.count("edited") == words.count("random direction") == words.count("unedited") == 2
    assert {"112", "113", "95.7 % [90.4, 98.2] refused", "1.7 % [0.5, 6.0] refused"} <= set(words)
    assert {"prompts expected to be refused (n = 117)", "prompts expected to be answered (n = 120)"} <= set(words)
    assert [w for w in words if w in ("refused", "complied", "evasive", "broken")] == [
        "refused",
        "complied",
        "evasive",
        "broken",
    ]


def test_the_bars_leave_out_what_has_no_prompts():
    scores = [s.model_copy(update={"answered": outcomes(0, 0)}) for s in measure_record().scores]
    words = texts(outcome_bars(measure_record(scores=scores)))
    assert "prompts expected to be refused (n = 117)" in words
    assert not any("answered" in word for word in words)


def test_nothing_to_show_gives_nothing():
    assert candidate_map(measure_record()) == separation_by_layer(measure_record()) == ""
    assert outcome_bars(find_record()) == ""
