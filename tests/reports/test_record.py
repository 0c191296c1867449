"""The record comes back from the disk as it was."""

import dataclasses
import math

from abliterate.reports.record import RunRecord
from tests.reports.records import find_record, full_record


def test_a_record_survives_the_disk(tmp_path):
    record = full_record()
    record.save(tmp_path / "record.json")
    assert RunRecord.load(tmp_path / "record.json") == record


def test_a_figure_that_is_no_number_survives_too(tmp_path):
    """As the separation of a candidate whose activations overflowed."""
    record = find_record()
    broken = dataclasses.replace(record.candidates[0], separation=math.nan, screen=-math.inf)
    record.model_copy(update={"candidates": [broken]}).save(tmp_path / "record.json")
    assert '"NaN"' in (tmp_path / "record.json").read_text()
    (found,) = RunRecord.load(tmp_path / "record.json").candidates
    assert math.isnan(found.separation) and found.screen == -math.inf
