"""Claim: `--early-stop` halves the time of a refused-heavy run and leaves every outcome as it was.

A refused-heavy run: most prompts are refused, a few are answered at length, and in a batch of plain `generate` all
wait for those. The same prompts and token budget by plain `generate` and with early stop, in turn. `ratio` is the
median over rounds; `same_outcomes` the share of prompts whose outcome is the same.
"""

import argparse
import os
from collections.abc import Callable

import torch

from abliterate.anatomy.load import load
from abliterate.capture.chat import Chat
from abliterate.capture.forward import Completion, complete
from abliterate.capture.prompts import Label, Split, load_prompts
from abliterate.capture.until import complete_until
from abliterate.evals.certainty import certainly_refuses
from abliterate.evals.scores import judge_all, tally
from abliterate.runs.demo import demo_model
from abliterate.settings import resolve
from benchmarks.common import interleave, ratio, report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", help="a directory or hub id; default: the demonstration model")
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--answered", type=int, default=4, help="how many of them are expected to be answered")
    parser.add_argument("--tokens", type=int, default=256, help="budget of a completion")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    model = load(given.model or demo_model(resolve().cache))
    sizes = {Label.REFUSED: given.prompts - given.answered, Label.ANSWERED: given.answered}
    texts = [text for label, n in sizes.items() for text in load_prompts("builtin", label).take(Split.REPORT, n)]
    sequences = Chat(model.tokenizer).encode(texts)
    thinks = "</think>" in str(model.tokenizer.chat_template)
    kept: dict[str, list[Completion]] = {}

    def settled(number: int, text: str) -> bool:
        return certainly_refuses(texts[number], text, thinks=thinks)

    works: dict[str, Callable[[], list[Completion]]] = {
        "plain": lambda: complete(model, sequences, max_new_tokens=given.tokens),
        "early": lambda: complete_until(model, sequences, settled, max_new_tokens=given.tokens),
    }
    timed = [lambda name=name, work=work: kept.update({name: work()}) for name, work in works.items()]
    plain, early = interleave(given.rounds, *timed)
    outcomes = {name: [j.outcome for j in judge_all(texts, completions)] for name, completions in kept.items()}
    same = sum(a is b for a, b in zip(outcomes["plain"], outcomes["early"], strict=True))
    report(
        {
            "benchmark": "measure",
            "ratio": round(ratio(early, plain), 4),
            "same_outcomes": same / len(texts),
            "prompts": len(texts),
            "answered": given.answered,
            "max_new_tokens": given.tokens,
            "refused": tally(outcomes["plain"]).refused.count,
            "tokens_plain": sum(len(c.ids) for c in kept["plain"]),
            "tokens_early": sum(len(c.ids) for c in kept["early"]),
            "seconds_plain": [round(s, 2) for s in plain],
            "seconds_early": [round(s, 2) for s in early],
            "threads": torch.get_num_threads(),
            "cpus": os.cpu_count(),
            "limit": 0.5,
        }
    )


if __name__ == "__main__":
    main()
