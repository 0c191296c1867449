"""Where the prompts lie: the coordinates are those of the direction, and nothing is lost on the way to the record."""

from pathlib import Path

import pytest
import torch

from abliterate.reports.record import RunRecord
from abliterate.runs import results
from abliterate.runs.context import Context
from abliterate.runs.geometry import BINS, plane
from abliterate.settings import resolve
from tests.refusing import write_prompts
from tests.runs.conftest import QUICK


@pytest.fixture(scope="session")
def record(tmp_path_factory: pytest.TempPathFactory, model: Path) -> RunRecord:
    folder = tmp_path_factory.mktemp("geometry")
    refused, answered = write_prompts(folder)
    flags = QUICK | {"prompts.refused": str(refused), "prompts.answered": str(answered), "cache": str(folder / "cache")}
    return results.run_into(Context.open(str(model), resolve(flags=flags)), folder / "out", force=False)


def test_the_plane_is_the_direction_and_the_largest_variance_of_the_rest() -> None:
    generator = torch.Generator().manual_seed(0)
    unit, axis = torch.eye(8, dtype=torch.float64)[:2]
    along, across = (torch.randn(40, 1, generator=generator, dtype=torch.float64) * s for s in (5.0, 3.0))
    noise = 0.01 * torch.randn(40, 8, generator=generator, dtype=torch.float64)
    x, y, share = plane(along * unit + across * axis + noise, unit)
    assert torch.allclose(x, along[:, 0], atol=0.05)
    assert torch.allclose(y, across[:, 0] - across.mean(), atol=0.05)
    assert 0.99 < share <= 1.0


def test_a_plane_of_points_on_the_direction_alone_has_no_second_axis() -> None:
    unit = torch.eye(3, dtype=torch.float64)[0]
    _, y, share = plane(torch.arange(4.0).unsqueeze(1) * unit, unit)
    assert share == 0.0 and y.abs().max() == 0


def test_every_prompt_is_in_every_histogram_and_on_the_map(record: RunRecord) -> None:
    found = record.geometry
    assert found is not None and record.chosen is not None
    assert (found.position, found.layer) == (record.chosen.position, record.chosen.layer)
    sides = (len(found.refused.x), len(found.answered.x))
    assert all(len(cloud.x) == len(cloud.y) for cloud in (found.refused, found.answered)) and min(sides) > 0
    for histogram in found.histograms:
        assert (sum(histogram.refused), sum(histogram.answered)) == sides
        assert len(histogram.refused) == len(histogram.answered) == BINS and histogram.low < histogram.high
    # The tiny model's prompts are fewer than would fill the map, so those that fitted the direction are on it too.
    assert record.observed is not None
    assert found.refused.fit == record.observed.kept_refused and found.answered.fit == record.observed.kept_answered


def test_the_direction_parts_the_sides_as_its_histogram_says(record: RunRecord) -> None:
    found = record.geometry
    assert found is not None
    means = [sum(cloud.x) / len(cloud.x) for cloud in (found.refused, found.answered)]
    assert means[0] > means[1]
    (histogram,) = (h for h in found.histograms if h.layer == found.layer)
    both = found.refused.x + found.answered.x
    assert min(both) == pytest.approx(histogram.low, rel=1e-3) and max(both) == pytest.approx(histogram.high, rel=1e-3)


def test_the_kl_by_token_begins_with_that_of_the_first_token(record: RunRecord) -> None:
    unedited, edited = record.of("unedited"), record.of("edited")
    assert unedited is not None and edited is not None and edited.drift is not None
    assert unedited.by_token == []
    assert 0 < len(edited.by_token) <= 8
    assert edited.by_token[0].n == edited.drift.first_token.n
    assert edited.by_token[0].mean == pytest.approx(edited.drift.first_token.mean, rel=1e-3)
    assert all(a.n >= b.n for a, b in zip(edited.by_token, edited.by_token[1:], strict=False))
