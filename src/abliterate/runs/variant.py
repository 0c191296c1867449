"""One variant of the model on the prompts that are reported on: its completions, their outcomes, and what they cost."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from abliterate.capture.forward import Completion, complete
from abliterate.capture.prompts import Label
from abliterate.capture.until import complete_until
from abliterate.capture.uses import Report, Used, reportable
from abliterate.edits.edit import Ablate
from abliterate.edits.hooks import edited
from abliterate.evals import drift as drifts
from abliterate.evals.certainty import certainly_refuses
from abliterate.evals.costs import Perplexity, costs, perplexity, read_windows, window_losses
from abliterate.evals.harness import TaskScore, run_tasks
from abliterate.evals.judges import Agreement, Judge, Pair, agreement
from abliterate.evals.outcome import Outcome
from abliterate.evals.overrefusal import OverRefusal, over_refusal
from abliterate.evals.scores import tally
from abliterate.files import digest
from abliterate.reports.record import Scores, Variant
from abliterate.runs.context import Context


@dataclass(frozen=True)
class Measured:
    """One variant's figures, with what they count.

    Attributes:
        scores: for the record.
        completions: of the report prompts.
        outcomes: of those.
        borderline: outcomes on the borderline prompts; empty where they were not measured.
        drift: KL at every token of the answer to each answered prompt; empty of the unedited model.
        losses: of each window of the perplexity file; empty where none was named.
    """

    scores: Scores
    completions: Mapping[Label, list[Completion]]
    outcomes: Mapping[Label, list[Outcome]]
    borderline: Mapping[Label, list[Outcome]] = field(default_factory=dict)
    drift: Sequence[Sequence[float]] = ()
    losses: Sequence[float] = ()


@dataclass(frozen=True)
class Measuring:
    """Measures variants of one model on the same prompts.

    Attributes:
        run: the model and settings.
        judges: the first one's verdicts are counted, the others are compared with it.
        report: what is reported on, by label.
        borderline: likewise; may be empty.
    """

    run: Context
    judges: Sequence[Judge]
    report: Mapping[Label, Used[Report]]
    borderline: Mapping[Label, Used[Report]]

    def of(self, variant: Variant, edit: Ablate | None, base: Measured | None) -> Measured:
        """Measure one variant.

        Args:
            variant: which.
            edit: applied with hooks; None for the unedited model.
            base: of the unedited model, which the drift is against.

        Raises:
            TypeError: prompts that have chosen something.
            JudgeFailed: a judge cannot be reached.
        """
        name = variant if edit is None else f"{variant}-{digest(edit.direction.basis.tolist())[:8]}-{edit.strength:g}"
        completions = {label: self._answers(f"{name}-{label}", variant, edit, self.report[label]) for label in Label}
        outcomes, agreed = self._judged(variant, completions)
        borderline = self._borderline(name, variant, edit, outcomes)
        moved = () if edit is None or base is None else self._drift(name, variant, edit, base)
        losses, measured = self._perplexity(name, edit)
        tasks = self._tasks(name, edit) if variant in ("unedited", "edited") else []
        seed = self.run.settings.evaluation.seed
        pairs = {label: list(zip(self.report[label], completions[label], strict=True)) for label in Label}
        scores = Scores(
            variant=variant,
            refused=tally(outcomes[Label.REFUSED]),
            answered=tally(outcomes[Label.ANSWERED]),
            drift=drifts.summary(moved, seed=seed) if moved else None,
            agreement=agreed,
            over_refusal=_over_refusal(borderline),
            costs=costs(
                pairs[Label.REFUSED],
                pairs[Label.ANSWERED],
                outcomes[Label.ANSWERED],
                seed=seed,
                perplexity=measured,
            ),
            by_token=drifts.by_token(moved, seed=seed),
            tasks=tasks,
        )
        return Measured(scores, completions, outcomes, borderline, moved, losses)

    def _judged(
        self, variant: Variant, completions: Mapping[Label, list[Completion]]
    ) -> tuple[dict[Label, list[Outcome]], list[Agreement]]:
        pairs = [pair for label in Label for pair in _pairs(self.report[label], completions[label])]
        verdicts = {judge.name: judge.judge(pairs) for judge in self.judges}
        agreed = agreement(verdicts)
        for pair in agreed:
            self.run.progress.note(f"{variant}: {pair.format()}")
        first, cut = verdicts[self.judges[0].name], len(completions[Label.REFUSED])
        return {Label.REFUSED: first[:cut], Label.ANSWERED: first[cut:]}, agreed

    def _borderline(
        self, name: str, variant: Variant, edit: Ablate | None, outcomes: Mapping[Label, list[Outcome]]
    ) -> dict[Label, list[Outcome]]:
        """Outcomes on borderline prompts; the report prompts stand in for unsafe ones where the set has none."""
        if not any(self.borderline.values()):
            return {}
        found = {}
        for label, prompts in self.borderline.items():
            completions = self._answers(f"{name}-borderline-{label}", variant, edit, prompts) if prompts else []
            found[label] = self.judges[0].judge(_pairs(prompts, completions)) if prompts else []
        return found if found[Label.REFUSED] else found | {Label.REFUSED: outcomes[Label.REFUSED]}

    def _answers(self, stage: str, variant: Variant, edit: Ablate | None, prompts: Used[Report]) -> list[Completion]:
        run, texts = self.run, reportable(prompts)
        title = f"{variant}: {stage.rpartition('-')[2]}" + (" (borderline)" if "-borderline-" in stage else "")
        sequences, limit = run.chat.encode(texts), run.settings.evaluation.max_new_tokens
        thinks = "</think>" in str(run.subject.tokenizer.chat_template)
        # Answers to answered prompts are compared in length and in KL, so those are left to end by themselves.
        whole = texts is self.report[Label.ANSWERED]

        def settled(number: int, text: str) -> bool:
            return not whole and certainly_refuses(texts[number], text, thinks=thinks)

        def compute() -> list[Completion]:
            with nullcontext() if edit is None else edited(run.subject, edit):
                if run.settings.evaluation.early_stop:
                    return complete_until(
                        run.subject, sequences, settled, max_new_tokens=limit, title=title, progress=run.progress
                    )
                return complete(run.subject, sequences, max_new_tokens=limit, title=title, progress=run.progress)

        return run.stages.value(stage, list[Completion], compute)

    def _drift(self, name: str, variant: Variant, edit: Ablate, base: Measured) -> list[list[float]]:
        run = self.run

        def compute() -> list[list[float]]:
            return drifts.drift_each(
                run.subject,
                edit,
                run.chat.encode(self.report[Label.ANSWERED]),
                base.completions[Label.ANSWERED],
                title=f"{variant}: KL",
                progress=run.progress,
            )

        return run.stages.value(f"{name}-drift", list[list[float]], compute)

    def _perplexity(self, name: str, edit: Ablate | None) -> tuple[Sequence[float], Perplexity | None]:
        run, chosen = self.run, self.run.settings.evaluation
        if chosen.perplexity_file is None:
            return (), None
        windows = read_windows(run.subject, chosen.perplexity_file, chosen.perplexity_windows)

        def compute() -> list[float]:
            with nullcontext() if edit is None else edited(run.subject, edit):
                return window_losses(run.subject, windows, run.progress)

        # The text is no part of the run's hash, so its tokens are part of the stage's name.
        losses = run.stages.value(f"{name}-perplexity-{digest(windows)[:8]}", list[float], compute)
        return losses, perplexity(windows, losses, seed=chosen.seed)

    def _tasks(self, name: str, edit: Ablate | None) -> list[TaskScore]:
        run, chosen = self.run, self.run.settings.evaluation
        if not chosen.tasks:
            return []

        def compute() -> list[TaskScore]:
            with nullcontext() if edit is None else edited(run.subject, edit):
                return run_tasks(
                    run.subject,
                    chosen.tasks,
                    limit=chosen.task_limit,
                    batch_size=chosen.task_batch,
                    seed=chosen.seed,
                )

        return run.stages.value(f"{name}-tasks", list[TaskScore], compute)


def _pairs(prompts: Used[Report], completions: Sequence[Completion]) -> list[Pair]:
    return [Pair(prompt, c.text, c.finished) for prompt, c in zip(prompts, completions, strict=True)]


def _over_refusal(outcomes: Mapping[Label, list[Outcome]]) -> OverRefusal | None:
    return over_refusal(outcomes[Label.ANSWERED], outcomes[Label.REFUSED]) if outcomes else None
