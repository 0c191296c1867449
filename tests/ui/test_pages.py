"""`report` and `plot` as their user meets them."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from abliterate.ui.main import main
from tests.reports.records import full_record, rich_record

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Run a command beside two runs, `one` and `two`."""
    monkeypatch.chdir(tmp_path)
    for name, record in (("one", rich_record()), ("two", full_record(strength=0.5))):
        Path(name).mkdir()
        record.save(Path(name) / "record.json")

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["abliterate", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run


def test_one_run_gives_its_report(call: Call) -> None:
    code, out, err = call("report", "one")
    assert (code, out.strip(), err) == (0, "Written to report.html", "")
    assert "Where the prompts lie" in Path("report.html").read_text()


def test_several_runs_give_a_comparison(call: Call) -> None:
    code, out, _ = call("report", "one", "two/record.json", "-o", "pages/both.html", "--json")
    assert code == 0 and json.loads(out) == {"written": ["pages/both.html"]}
    assert "2 runs compared" in Path("pages/both.html").read_text()


def test_plots_are_written_as_svg_or_png(call: Call) -> None:
    assert call("plot", "one")[0] == 0
    assert len(list(Path("one-plots").glob("*.svg"))) == 8
    code, out, _ = call("plot", "two/record.json", "-o", "figures", "--format", "png", "--json")
    assert code == 0 and len(json.loads(out)["written"]) == 4
    assert {path.suffix for path in Path("figures").iterdir()} == {".png"}


def test_nothing_is_replaced_unasked(call: Call) -> None:
    Path("report.html").write_text("mine")
    code, out, err = call("report", "one")
    assert (code, out) == (2, "") and "report.html exists already" in err and "--force" in err
    assert Path("report.html").read_text() == "mine"
    assert call("report", "one", "--force")[0] == 0
    call("plot", "one")
    code, _, err = call("plot", "one")
    assert code == 2 and "exists already" in err
    assert call("report", "one", "-o", "two")[0] == 2


@pytest.mark.parametrize("verb", ["report", "plot"])
def test_what_is_no_run_is_refused_in_one_line(call: Call, verb: str) -> None:
    Path("empty").mkdir()
    for path in ("empty", "missing"):
        code, out, err = call(verb, path)
        assert (code, out) == (2, "") and len(err.splitlines()) == 1 and "cannot read the record" in err
    assert call("plot", "one", "--format", "pdf")[0] == 2
