"""What the benchmarks share: the model, interleaved timing, and the one line they print."""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from abliterate.anatomy.load import Subject, load
from abliterate.runs.demo import demo_model
from abliterate.settings import resolve


def subject(description: str) -> Subject:
    """The model named on the command line, or the demonstration model."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("model", nargs="?", help="a directory or hub id; default: the demonstration model")
    given = parser.parse_args().model
    return load(given or demo_model(resolve().cache))


def interleave(rounds: int, *works: Callable[[], object]) -> list[list[float]]:
    """Seconds of each work in each round, after one warm-up; taking turns spreads the machine's noise evenly."""
    times: list[list[float]] = [[] for _ in works]
    for number in range(rounds + 1):
        for work, taken in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            if number:
                taken.append(time.perf_counter() - start)
    return times


def ratio(measured: Sequence[float], reference: Sequence[float]) -> float:
    """Median over rounds of the ratio within each round."""
    return statistics.median(a / b for a, b in zip(measured, reference, strict=True))


def peak_rss(work: Callable[[], object]) -> int | None:
    """Peak resident bytes while `work` runs, or None where the kernel cannot reset the mark."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return None
    work()
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def report(values: dict[str, object]) -> None:
    """Print the result as one JSON line."""
    print(json.dumps(values))
