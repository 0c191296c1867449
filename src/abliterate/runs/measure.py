"""Measuring an edit on the report prompts: unedited, edited, and with a random direction of equal norm."""

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from abliterate.capture.forward import Completion, complete
from abliterate.capture.prompts import Label
from abliterate.directions.direction import Direction
from abliterate.directions.estimators import random_vector
from abliterate.edits.edit import Ablate
from abliterate.edits.hooks import edited
from abliterate.evals.drift import Drift, drift
from abliterate.evals.judges import Judge, Pair, agreement, open_judge
from abliterate.evals.outcome import Outcome
from abliterate.evals.scores import tally
from abliterate.evals.statistics import Mean
from abliterate.files import digest
from abliterate.reports.record import Sample, Scores, Variant
from abliterate.runs.bytoken import kl_by_token
from abliterate.runs.context import Context


@dataclass(frozen=True)
class Measured:
    """One variant's figures, with the completions they count."""

    scores: Scores
    completions: Mapping[Label, list[Completion]]
    outcomes: Mapping[Label, list[Outcome]]


def measure(run: Context, edit: Ablate | None) -> tuple[list[Scores], list[Sample]]:
    """Score the report prompts without the edit, with it, and with a random direction in its place.

    The edited model is measured with hooks; the proof of a baked model bounds how far its weights are from them.
    """
    judges = _judges(run)
    before = _variant(run, judges, "unedited", None, None)
    if edit is None:
        return [before.scores], _samples(run, before, before)
    after = _variant(run, judges, "edited", edit, before)
    control = _variant(run, judges, "random", random_control(run, edit), before)
    return [before.scores, after.scores, control.scores], _samples(run, before, after)


def random_control(run: Context, edit: Ablate) -> Ablate:
    """The same edit along a random direction of equal norm."""
    direction = edit.direction
    vector = random_vector(direction.basis[0] * direction.scale, seed=run.settings.evaluation.seed)
    control = Direction.from_vector(
        vector, position=direction.position, layer=direction.layer, provenance=direction.provenance
    )
    return dataclasses.replace(edit, direction=control)


def _judges(run: Context) -> list[Judge]:
    """The judges of the settings; the first one's verdicts are counted, the others are compared with it."""
    chosen = run.settings.evaluation
    cache, device = run.settings.cache / "judgements", str(run.subject.model.device)
    return [open_judge(spec, cache=cache, labels=chosen.judge_labels, device=device) for spec in chosen.judges]


def _judged(
    run: Context, judges: Sequence[Judge], variant: Variant, completions: Mapping[Label, list[Completion]]
) -> dict[Label, list[Outcome]]:
    pairs = [
        Pair(prompt, c.text, c.finished)
        for label in Label
        for prompt, c in zip(run.material.report[label], completions[label], strict=True)
    ]
    verdicts = {judge.name: judge.judge(pairs) for judge in judges}
    for pair in agreement(verdicts):
        run.progress.note(f"{variant}: {pair.format()}")
    first, cut = verdicts[judges[0].name], len(completions[Label.REFUSED])
    return {Label.REFUSED: first[:cut], Label.ANSWERED: first[cut:]}


def _variant(
    run: Context, judges: Sequence[Judge], variant: Variant, edit: Ablate | None, base: Measured | None
) -> Measured:
    name = variant if edit is None else f"{variant}-{digest(edit.direction.basis.tolist())[:8]}-{edit.strength:g}"
    completions = {label: _answers(run, name, variant, edit, label) for label in Label}
    outcomes = _judged(run, judges, variant, completions)
    moved = None if edit is None or base is None else _drift(run, name, variant, edit, base)
    scores = Scores(
        variant=variant,
        refused=tally(outcomes[Label.REFUSED]),
        answered=tally(outcomes[Label.ANSWERED]),
        drift=moved,
        by_token=[] if edit is None or base is None else _by_token(run, name, variant, edit, base),
    )
    return Measured(scores, completions, outcomes)


def _answers(run: Context, name: str, variant: Variant, edit: Ablate | None, label: Label) -> list[Completion]:
    def compute() -> list[Completion]:
        with nullcontext() if edit is None else edited(run.subject, edit):
            return complete(
                run.subject,
                run.chat.encode(run.material.report[label]),
                max_new_tokens=run.settings.evaluation.max_new_tokens,
                title=f"{variant}: prompts labelled {label}",
                progress=run.progress,
            )

    return run.stages.value(f"{name}-{label}", list[Completion], compute)


def _drift(run: Context, name: str, variant: Variant, edit: Ablate, base: Measured) -> Drift:
    def compute() -> Drift:
        return drift(
            run.subject,
            edit,
            run.chat.encode(run.material.report[Label.ANSWERED]),
            base.completions[Label.ANSWERED],
            seed=run.settings.evaluation.seed,
            title=f"{variant}: KL",
            progress=run.progress,
        )

    return run.stages.value(f"{name}-drift", Drift, compute)


def _by_token(run: Context, name: str, variant: Variant, edit: Ablate, base: Measured) -> list[Mean]:
    def compute() -> list[Mean]:
        sequences, answers = run.chat.encode(run.material.report[Label.ANSWERED]), base.completions[Label.ANSWERED]
        return kl_by_token(run, edit, sequences, answers, title=f"{variant}: KL by token")

    return run.stages.value(f"{name}-by-token", list[Mean], compute)


def _samples(run: Context, before: Measured, after: Measured) -> list[Sample]:
    shown = run.settings.evaluation.shown_characters
    return [
        Sample(
            prompt=text,
            label=label,
            before=_cut(before.completions[label][i].text, shown),
            before_outcome=before.outcomes[label][i],
            after=_cut(after.completions[label][i].text, shown),
            after_outcome=after.outcomes[label][i],
        )
        for label in Label
        for i, text in enumerate(run.material.report[label])
    ]


def _cut(text: str, limit: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[:limit].rstrip() + " …"
