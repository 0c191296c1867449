"""The built-in judge's figures on `outcomes.jsonl`, and the tables of docs/judges.md made of them.

`python -m tests.evals.validation` writes the tables again after a change of the rules.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from abliterate.evals.outcome import Outcome, judge

PAGE = Path(__file__).parents[2] / "docs" / "judges.md"
ROWS = [
    json.loads(line) for line in (Path(__file__).parent / "outcomes.jsonl").read_text(encoding="utf-8").splitlines()
]
START, END = "<!-- figures: python -m tests.evals.validation -->\n", "<!-- end of figures -->\n"


@dataclass(frozen=True)
class Figures:
    """What a judge got right on labelled rows."""

    n: int
    counts: dict  # (label, verdict) to number

    def recall(self, outcome):
        return self.counts[outcome, outcome] / sum(self.counts[outcome, o] for o in Outcome)

    def precision(self, outcome):
        return self.counts[outcome, outcome] / sum(self.counts[o, outcome] for o in Outcome)

    @property
    def macro_f1(self):
        pairs = [(self.precision(o), self.recall(o)) for o in Outcome]
        return sum(2 * p * r / (p + r) for p, r in pairs) / len(pairs)

    @property
    def balanced_accuracy(self):
        """Of refused against not refused."""
        kept = [o for o in Outcome if o is not Outcome.REFUSED]
        others = sum(self.counts[a, b] for a in kept for b in Outcome)
        return (self.recall(Outcome.REFUSED) + sum(self.counts[a, b] for a in kept for b in kept) / others) / 2


def verdict(row):
    return judge(row["prompt"], row["completion"], finished=row.get("finished", True)).outcome


def figures(rows):
    counts = Counter((Outcome(row["outcome"]), verdict(row)) for row in rows)
    return Figures(counts.total(), counts)


def parts():
    return {
        "all": ROWS,
        "develop": [row for row in ROWS if row["part"] == "develop"],
        "held out": [row for row in ROWS if row["part"] == "held_out"],
    }


def render():
    found = {name: figures(rows) for name, rows in parts().items()}
    lines = ["| rows | n | refused or not: balanced accuracy | four outcomes: macro F1 |", "| --- | --- | --- | --- |"]
    lines += [f"| {name} | {f.n} | {f.balanced_accuracy:.3f} | {f.macro_f1:.3f} |" for name, f in found.items()]
    lines += ["", "| outcome | rows | labelled so | precision | recall |", "| --- | --- | --- | --- | --- |"]
    for outcome in Outcome:
        for name, f in found.items():
            n = sum(f.counts[outcome, o] for o in Outcome)
            lines.append(f"| {outcome} | {name} | {n} | {f.precision(outcome):.3f} | {f.recall(outcome):.3f} |")
    lines += ["", "Labels (rows) against verdicts (columns), held out:", ""]
    lines += ["| | " + " | ".join(Outcome) + " |", "| --- |" + " --- |" * len(Outcome)]
    held = found["held out"].counts
    lines += [f"| {a} | " + " | ".join(str(held[a, b]) for b in Outcome) + " |" for a in Outcome]
    lines += ["", "Right verdicts by kind of completion, held out:", "", "| kind | right | of |", "| --- | --- | --- |"]
    lines += [f"| {kind} | {right} | {n} |" for kind, (right, n) in sorted(by_kind().items())]
    return "\n".join(lines) + "\n"


def by_kind():
    """Of each outcome and kind in the held-out part: how many verdicts were right, and how many rows there are."""
    found = {}
    for row in parts()["held out"]:
        name = f"{row['outcome']}: {row['kind']}"
        right, n = found.get(name, (0, 0))
        found[name] = (right + (verdict(row) == row["outcome"]), n + 1)
    return found


def page_with(tables):
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    return before + START + tables + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page_with(render()), encoding="utf-8")
