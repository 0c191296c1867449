"""Every plot of a record as files, and records by path."""

import shutil
import xml.etree.ElementTree as ElementTree

import pytest

from abliterate.errors import ArtifactError
from abliterate.reports.gallery import PLOTS, draw_all, load_run, load_runs
from tests.reports.records import bake_record, find_record, full_record, measure_record, rich_record


def test_a_rich_record_gives_every_plot_twice_the_same():
    drawn = draw_all(rich_record(), "svg")
    assert list(drawn) == [f"{plot.name}.svg" for plot in PLOTS]
    assert draw_all(rich_record(), "svg") == drawn
    for svg in drawn.values():
        root = ElementTree.fromstring(svg)
        assert root.tag.endswith("svg") and "width" in root.attrib and b"<metadata" not in svg


def test_png_files_are_opaque_pictures():
    drawn = draw_all(rich_record(), "png")
    assert len(drawn) == len(PLOTS) and all(data.startswith(b"\x89PNG") for data in drawn.values())
    assert draw_all(rich_record(), "png") == drawn


@pytest.mark.parametrize(
    ("record", "names"),
    [
        (measure_record(), ["outcomes"]),
        (bake_record(), ["strengths"]),
        (find_record(), ["candidates", "separation"]),
        (full_record(), ["outcomes", "candidates", "separation", "strengths"]),
    ],
)
def test_a_record_gives_only_what_it_holds(record, names):
    assert list(draw_all(record, "svg")) == [f"{name}.svg" for name in names]


def test_runs_are_named_by_what_tells_them_apart(tmp_path):
    for folder in ("one/run", "two/run", "three"):
        (tmp_path / folder).mkdir(parents=True)
        full_record().save(tmp_path / folder / "record.json")
    shutil.copy(tmp_path / "three" / "record.json", tmp_path / "mine.json")
    paths = [tmp_path / "one" / "run", tmp_path / "two" / "run" / "record.json"]
    assert list(load_runs(paths)) == ["one/run", "two/run"]
    assert list(load_runs([tmp_path / "three", tmp_path / "mine.json"])) == ["three", "mine"]
    assert next(iter(load_runs([tmp_path / "three"] * 2))).endswith("three (1)")
    with pytest.raises(ArtifactError, match="cannot read the record"):
        load_run(tmp_path / "one")
