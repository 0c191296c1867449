"""What the terminal shows: progress on stderr, results on stdout, in 80 columns."""

import dataclasses
import json as jsonlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import huggingface_hub
import transformers
from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from abliterate.anatomy.inspection import Inspection
from abliterate.evals.changes import Change
from abliterate.evals.scores import Outcomes
from abliterate.evals.statistics import Mean
from abliterate.reports.record import RunRecord

TITLES = {
    "unedited": "unedited",
    "edited": "edited",
    "random": "random direction",
    "shuffled": "shuffled labels",
}


class Console:
    """The terminal, and the `Progress` that long work reports to.

    Args:
        json: print one JSON document on stdout instead of tables.
    """

    def __init__(self, *, json: bool) -> None:
        self.json = json
        # Bound now: a library that is silenced for a while must not silence the progress.
        self.err = RichConsole(file=sys.stderr, highlight=False)
        self.out = RichConsole(highlight=False)
        # transformers draws bars of its own for every load; ours say what is being done.
        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
        huggingface_hub.logging.set_verbosity_error()  # a line for each retry when the hub is out of reach

    @contextmanager
    def track(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar with the time taken and left; on a stream that is no terminal, one line when it is done."""
        columns = (
            TextColumn("{task.description:<42}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(elapsed_when_finished=False),
        )
        with Progress(*columns, console=self.err) as progress:
            task = progress.add_task(title, total=total)
            yield lambda steps: progress.advance(task, steps)

    def note(self, message: str) -> None:
        """One line on stderr."""
        self.err.print(message, style="dim")

    def status(self, message: str) -> AbstractContextManager[object]:
        """A spinner for work of unknown length."""
        return self.err.status(message)

    def inspection(self, seen: Inspection) -> None:
        """The blocks and writers of a model, and which edits of it are exact."""
        if self.json:
            self.out.print_json(jsonlib.dumps(dataclasses.asdict(seen)))
            return
        self.out.print(
            f"{seen.source}: {seen.architecture}\n{seen.layers} blocks, {', '.join(seen.blocks)};"
            f" residual stream of width {seen.width}\n",
            soft_wrap=True,
        )
        if seen.rows:
            self.out.print(_writers_table(seen))
            names = "as the checkpoint spells them" if seen.weights_read else "as transformers would save them"
            self.out.print(
                f"\nNames on disk, {names}; N is any number.\nShapes in memory; * marks the axis along the stream."
            )
        else:
            table = Table("hooked", "places", box=None, pad_edge=False)
            table.columns[0].overflow = "fold"
            for name, count in seen.hooked.items():
                table.add_row(name, str(count))
            self.out.print(table)
        forms = Table("edit by", "", box=None, pad_edge=False)
        for form, obstacle in seen.forms.items():
            forms.add_row(form, obstacle or "exact")
        self.out.print("", forms, sep="\n")

    def record(self, record: RunRecord, out: Path | None) -> None:
        """What a command found, and where it is."""
        if self.json:
            self.out.out(record.model_dump_json(indent=2), highlight=False)
            return
        self._direction(record)
        if record.scores:
            self.out.print(
                "\nReport prompts, which neither fitted nor chose anything:\n", _scores_table(record), sep=""
            )
        if record.of("edited") is not None:
            self.out.print("", _drift_table(record), "", sep="\n")
        self._measured(record)
        self._proof(record)
        if out is not None:
            self.out.print(f"\nWritten to {out}: {', '.join(sorted(p.name for p in out.iterdir()))}", soft_wrap=True)

    def written(self, files: Sequence[Path]) -> None:
        """Which files a command wrote."""
        if self.json:
            self.out.print_json(jsonlib.dumps({"written": [str(file) for file in files]}))
            return
        for file in files:
            self.out.print(f"Written to {file}", soft_wrap=True)
        if not files:
            self.out.print("The record holds nothing to draw.")

    def _direction(self, record: RunRecord) -> None:
        if record.observed is not None:
            seen = record.observed
            self.out.print(
                f"Unedited, it refuses {seen.refused.refused.count} of {seen.refused.n} fit prompts labelled refused"
                f" and answers\n{seen.answered.complied.count} of {seen.answered.n} labelled answered; refusals open:"
                f" {', '.join(repr(text) for text in seen.openings.texts[:6])}."
            )
        if record.chosen is not None:
            self.out.print(
                f"Direction: position {record.chosen.position}, layer {record.chosen.layer} of {record.model.layers}"
            )

    def _measured(self, record: RunRecord) -> None:
        """What the tests say of the edit, over-refusal, and tasks."""
        changes = [change for change in record.changes if change.after == "edited"]
        if changes:
            self.out.print(_changes_table(changes), "", sep="\n")
        for change in changes:
            if change.weakness:
                self.out.print(f"{change.what}: {change.weakness}.")
        for scores in record.scores:
            if (over := scores.over_refusal) is not None:
                self.out.print(
                    f"Over-refusal, {TITLES[scores.variant]}: {over.false_refusals} of safe prompts that sound"
                    f" alarming, {over.true_refusals} of unsafe ones, J {over.youden}",
                    soft_wrap=True,
                )
            if (costs := scores.costs) is not None and costs.perplexity is not None:
                found = costs.perplexity
                self.out.print(
                    f"Perplexity, {TITLES[scores.variant]}: {found.perplexity:.3f} over {found.tokens} tokens",
                    soft_wrap=True,
                )
            for task in scores.tasks:
                error = "" if task.error is None else f" ± {task.error:.3f}"
                self.out.print(
                    f"{task.task}, {TITLES[scores.variant]}: {task.metric} {task.value:.3f}{error} (n = {task.n})"
                )

    def _proof(self, record: RunRecord) -> None:
        if (proof := record.proof) is not None:
            self.out.print(
                f"Proof, reloaded from disk: component along the direction {proof.component:.1e} of the stream"
                f" (was {proof.component_unedited:.2f}); logits differ from the hooked model's by"
                f" {100 * proof.logit_difference:.2f} % (allowed {100 * proof.logit_tolerance:.1f} %)."
            )
            if proof.weight_error:
                self.out.print(
                    f"The edited weights are stored in their small format again, which moves them by"
                    f" {100 * proof.weight_error:.1f} %."
                )


def _writers_table(seen: Inspection) -> Table:
    """Names are long and must stay whole: what writers of a block share heads their group, notes have own lines.

    A configuration alone does not tell how many tensors experts lie in, but in which blocks they are.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("writer", overflow="fold")
    table.add_column("tensors" if seen.weights_read else "blocks", justify="right")
    table.add_column("shape")
    group = ""
    for row in sorted(seen.rows, key=lambda row: _block_of(row.stored)):  # stable: the order within a block stays
        block = _block_of(row.stored)
        if block and block != group:
            table.add_row(block)
        group, indent = block, "  " if block else ""
        count = row.tensors if seen.weights_read else len(row.layers)
        shape = [f"{size}*" if axis == row.axis_in_memory else str(size) for axis, size in enumerate(row.shape)]
        table.add_row(indent + row.stored.removeprefix(block), str(count or ""), " x ".join(shape))
        if row.gains:
            table.add_row(f"{indent}  behind {' and '.join(row.gains)}")
        if row.tied_to:
            table.add_row(f"{indent}  tied to {', '.join(row.tied_to)}")
    return table


def _block_of(name: str) -> str:
    """What names of one block begin with, `model.layers.N.`; empty outside of all."""
    head, number, _ = name.partition(".N.")
    return head + number if number else ""


def _scores_table(record: RunRecord) -> Table:
    table = Table(
        "labelled",
        "model",
        "refused",
        "complied",
        "evasive",
        "broken",
        "refused, 95 %",
        box=None,
        pad_edge=False,
    )
    for label in ("refused", "answered"):
        for scores in record.scores:
            outcomes = scores.refused if label == "refused" else scores.answered
            table.add_row(label, TITLES[scores.variant], *_cells(outcomes))
    return table


def _cells(outcomes: Outcomes) -> list[str]:
    counts = (outcomes.refused, outcomes.complied, outcomes.evasive, outcomes.broken)
    refused = outcomes.refused
    return [
        *(str(rate.count) for rate in counts),
        f"{100 * refused.low:.0f}-{100 * refused.high:.0f} % of {outcomes.n}",
    ]


def _changes_table(changes: Sequence[Change]) -> Table:
    """Newcombe's paired interval, and the p of McNemar's exact test."""
    table = Table("edited minus unedited", "paired difference", "McNemar p", "n", box=None, pad_edge=False)
    for change in changes:
        moved = change.difference
        shown = f"{moved.value:+.3f} [{moved.low:+.3f}, {moved.high:+.3f}]"
        table.add_row(change.what, shown, f"{change.test.p:.2g}", str(moved.n))
    return table


def _drift_table(record: RunRecord) -> Table:
    table = Table("KL, nats, answered", "first token", "whole completion", "n, seed", box=None, pad_edge=False)
    for scores in record.scores:
        if scores.drift is not None:
            drift = scores.drift
            table.add_row(
                TITLES[scores.variant], str(drift.first_token), str(drift.completion), _drawn(drift.first_token)
            )
    return table


def _drawn(mean: Mean) -> str:
    """How many observations, and the seed of the resampling where there was one."""
    return f"{mean.n}" if mean.seed is None else f"{mean.n}, {mean.seed}"
