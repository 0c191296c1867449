"""Measuring an edit on the report prompts: unedited, edited, and with other directions in its place as controls."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from abliterate.capture.collect import collect
from abliterate.capture.prompts import Label
from abliterate.directions.direction import Direction
from abliterate.directions.estimators import random_vector, shuffled
from abliterate.edits.edit import Ablate
from abliterate.evals.changes import Change, Shift, change, shift
from abliterate.evals.drift import both
from abliterate.evals.judges import Judge, open_judge
from abliterate.evals.outcome import Outcome
from abliterate.reports.record import Sample, Scores, Variant
from abliterate.runs.context import Context
from abliterate.runs.variant import Measured, Measuring


@dataclass(frozen=True)
class Measurement:
    """What was measured of an edit.

    Attributes:
        scores: of each variant.
        changes: of rates, before against after, with tests.
        shifts: of means, likewise.
        samples: every report prompt before and after, truncated.
    """

    scores: list[Scores]
    changes: list[Change]
    shifts: list[Shift]
    samples: list[Sample]

    def facts(self) -> dict[str, object]:
        """The part that the record keeps."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def measure(run: Context, edit: Ablate | None) -> Measurement:
    """Score the report prompts without the edit, with it, and with each control in its place.

    The edited model is measured with hooks; the proof of a baked model bounds how far its weights are from them.

    Raises:
        JudgeFailed: a judge cannot be had or reached.
    """
    measuring = Measuring(run, _judges(run), run.material.report, run.material.borderline)
    before = measuring.of("unedited", None, None)
    if edit is None:
        return Measurement([before.scores], [], [], _samples(run, before, before))
    after = measuring.of("edited", edit, before)
    controls: dict[str, Measured] = {
        name: _control(run, measuring, name, edit, before) for name in run.settings.evaluation.controls
    }
    found = {"unedited": before, "edited": after, **controls}
    return Measurement(
        [variant.scores for variant in found.values()],
        _changes(found),
        _shifts(found, run.settings.evaluation.seed),
        _samples(run, before, after),
    )


def random_control(run: Context, edit: Ablate) -> Ablate:
    """The same edit along a random direction of equal norm."""
    direction = edit.direction
    return _along(
        edit, random_vector(direction.basis[0] * direction.scale, seed=run.settings.evaluation.seed), "random"
    )


def shuffled_control(run: Context, edit: Ablate) -> Ablate:
    """The same edit along a direction fitted, at the same place, to fit prompts whose labels were shuffled.

    Whatever the way of fitting brings about by itself, this control does too.
    """
    direction, seed = edit.direction, run.settings.evaluation.seed

    def compute() -> Tensor:
        sides = shuffled(run.material.fit[Label.REFUSED], run.material.fit[Label.ANSWERED], seed=seed)
        first, second = (
            collect(run.subject, run.chat.encode(texts), run.chat.positions, progress=run.progress).mean
            for texts in sides
        )
        return (first - second)[run.chat.positions.index(direction.position), direction.layer]

    stage = f"shuffled-{direction.position}-{direction.layer}"
    return _along(edit, run.stages.tensor(stage, compute), "difference_of_means, shuffled labels")


def _along(edit: Ablate, vector: Tensor, estimator: str) -> Ablate:
    """The same edit along another direction."""
    direction = edit.direction
    made = dataclasses.replace(direction.provenance, estimator=estimator)
    other = Direction.from_vector(vector, position=direction.position, layer=direction.layer, provenance=made)
    return dataclasses.replace(edit, direction=other)


def _control(run: Context, measuring: Measuring, name: Variant, edit: Ablate, before: Measured) -> Measured:
    control = (random_control if name == "random" else shuffled_control)(run, edit)
    measured = measuring.of(name, control, before)
    cosine = float((control.direction.basis[0].double() * edit.direction.basis[0].double()).sum())
    drawn = measured.scores.model_copy(update={"seed": run.settings.evaluation.seed, "cosine": cosine})
    return dataclasses.replace(measured, scores=drawn)


def _judges(run: Context) -> list[Judge]:
    """The judges of the settings; the first one's verdicts are counted, the others are compared with it."""
    chosen = run.settings.evaluation
    cache, device = run.settings.cache / "judgements", str(run.subject.model.device)
    return [open_judge(spec, cache=cache, labels=chosen.judge_labels, device=device) for spec in chosen.judges]


def _changes(found: Mapping[str, Measured]) -> list[Change]:
    """Refusal rates of each variant against the unedited model's, on the same prompts."""
    before = found["unedited"]
    compared = []
    for name, after in found.items():
        if after is before:
            continue
        sides = [(f"prompts labelled {label}", before.outcomes[label], after.outcomes[label]) for label in Label]
        if before.borderline:
            safe = Label.ANSWERED
            sides.append(("safe borderline prompts", before.borderline[safe], after.borderline[safe]))
        compared += [
            change(f"refusals of {what}", ("unedited", name), _refuses(old), _refuses(new)) for what, old, new in sides
        ]
    return [one for one in compared if one is not None]


def _refuses(outcomes: list[Outcome]) -> list[bool]:
    return [outcome is Outcome.REFUSED for outcome in outcomes]


def _shifts(found: Mapping[str, Measured], seed: int) -> list[Shift]:
    """Lengths and losses against the unedited model's, and the edit's drift against that of each control."""
    before, after = found["unedited"], found["edited"]
    lengths = [[float(len(c.ids)) for c in m.completions[Label.ANSWERED]] for m in (before, after)]
    shifts = [shift("tokens of an answer", ("unedited", "edited"), *lengths, seed=seed)]
    if before.losses:
        names = ("unedited", "edited")
        shifts.append(shift("loss on the text, nats a token", names, before.losses, after.losses, seed=seed))
    for name, control in found.items():
        if name in ("unedited", "edited"):
            continue
        for part, what in enumerate(("first token", "whole completion")):
            old, new = ([both(values)[part] for values in m.drift] for m in (control, after))
            shifts.append(shift(f"KL of the {what}, nats", (name, "edited"), old, new, seed=seed))
    return shifts


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
