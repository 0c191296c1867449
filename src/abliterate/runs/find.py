"""Finding the direction: observe the model, fit candidates to what it really refuses and answers, choose by effect."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from torch import Tensor

from abliterate.capture.collect import collect, projections
from abliterate.capture.contrast import Openings, auroc, form_contrast, learn_openings
from abliterate.capture.forward import complete, first_token_logprobs
from abliterate.capture.moments import Moments
from abliterate.capture.prompts import Label
from abliterate.directions.direction import Direction, Provenance
from abliterate.directions.estimators import difference_of_means
from abliterate.directions.select import Candidate, Effects, Screened, Thresholds, select
from abliterate.directions.stability import Halves, Stability, stability
from abliterate.evals.effects import EffectScorer
from abliterate.evals.outcome import Outcome
from abliterate.evals.scores import Outcomes, judge_all, tally
from abliterate.files import digest
from abliterate.reports.geometry import Geometry
from abliterate.reports.record import Chosen, Observed, Sensitivity, Separation
from abliterate.runs.context import Context
from abliterate.runs.geometry import geometry

T = TypeVar("T")

EXPECTED = {Label.REFUSED: Outcome.REFUSED, Label.ANSWERED: Outcome.COMPLIED}


@dataclass(frozen=True)
class Behaving:
    """Prompts of one use on which the model does what the label says."""

    refused: tuple[str, ...]
    answered: tuple[str, ...]


@dataclass(frozen=True)
class Observation:
    """What the unedited model did with the fit and select prompts, and how it opens refusals.

    Attributes:
        refused: outcomes of the fit prompts labelled refused.
        answered: outcomes of the fit prompts labelled answered.
        fit: the fit prompts that are kept.
        select: the select prompts that are kept.
        openings: the first tokens of its refusals.
    """

    refused: Outcomes
    answered: Outcomes
    fit: Behaving
    select: Behaving
    openings: Openings

    def facts(self) -> Observed:
        """The part that the record keeps."""
        return Observed(
            refused=self.refused,
            answered=self.answered,
            kept_refused=len(self.fit.refused),
            kept_answered=len(self.fit.answered),
            openings=self.openings,
        )


@dataclass(frozen=True)
class Found:
    """The chosen direction, the table it was chosen from, how much it depends on the prompts, and where they lie."""

    direction: Direction
    candidates: list[Candidate]
    sensitivity: Sensitivity
    geometry: Geometry


def chosen_facts(direction: Direction) -> Chosen:
    """The part of a direction that the record keeps."""
    return Chosen(
        position=direction.position,
        layer=direction.layer,
        norm=direction.scale,
        basis_sha256=digest(direction.basis.tolist()),
    )


def observe(run: Context) -> Observation:
    """See what the model itself does with the fit and select prompts, before anything is fitted.

    Raises:
        ContrastTooSmall: it refuses, or answers, too few of them.
    """
    return run.stages.value("observe", Observation, lambda: _observe(run))


def find(run: Context, seen: Observation) -> Found:
    """Fit a difference of means at every (position, layer) and choose one by what it does.

    Raises:
        NoDirectionFound: none passes the thresholds.
    """
    fitted = cache(lambda: _fit(run, seen))
    raw = run.stages.tensor("capture", lambda: fitted()[0])
    steadiness = run.stages.value("stability", list[Stability], lambda: fitted()[1])
    candidates = run.stages.value("candidates", list[Candidate], lambda: _candidates(run, seen, raw))
    settings = run.settings.selection
    scorer = _scorer(run, seen)

    def direction_at(c: Candidate) -> Direction:
        vector = raw[run.chat.positions.index(c.position), c.layer]
        return Direction.from_vector(vector, position=c.position, layer=c.layer, provenance=_provenance(run, seen))

    def screen(some: Sequence[Candidate]) -> list[Screened]:
        return _over(run, "screen", some, Screened, lambda c: scorer.screen(direction_at(c), settings.screen_prompts))

    def score(some: Sequence[Candidate]) -> list[Effects]:
        return _over(run, "select", some, Effects, lambda c: scorer.effects(direction_at(c)))

    best, table = select(
        candidates,
        layers=run.subject.anatomy.layers,
        thresholds=Thresholds(
            settings.kl_limit, seen.openings.level(settings.induce_share), settings.depth, settings.separation
        ),
        finalists=settings.finalists,
        screen=screen if settings.screen_prompts else None,
        score=score,
    )
    run.progress.note(f"direction: position {best.position}, layer {best.layer} of {run.subject.anatomy.layers}")
    direction = direction_at(best)
    return Found(
        direction,
        table,
        _sensitivity(run, raw, steadiness),
        run.stages.value("geometry", Geometry, lambda: geometry(run, raw, direction, _prompts(seen))),
    )


def _prompts(seen: Observation) -> dict[Label, tuple[list[str], list[str]]]:
    """Kept prompts that chose the direction, and that fitted it."""
    return {
        Label.REFUSED: (list(seen.select.refused), list(seen.fit.refused)),
        Label.ANSWERED: (list(seen.select.answered), list(seen.fit.answered)),
    }


def _observe(run: Context) -> Observation:
    uses: dict[str, Mapping[Label, tuple[str, ...]]] = {"fit": run.material.fit, "select": run.material.select}
    texts = {label: [text for use in uses.values() for text in use[label]] for label in Label}
    outcomes = {label: dict(zip(texts[label], _behaviour(run, texts[label], label), strict=True)) for label in Label}
    kept = {}
    for use, prompts in uses.items():
        does = {label: [outcomes[label][text] is EXPECTED[label] for text in prompts[label]] for label in Label}
        # Selection averages effects, which asks less of each side than estimating a mean in d dimensions.
        minimum = run.settings.observe.minimum if use == "fit" else max(2, run.settings.observe.minimum // 3)
        contrast = form_contrast(does[Label.REFUSED], does[Label.ANSWERED], minimum=minimum, use=use)
        kept[use] = Behaving(
            tuple(prompts[Label.REFUSED][i] for i in contrast.refused),
            tuple(prompts[Label.ANSWERED][i] for i in contrast.answered),
        )
    openings = learn_openings(
        run.subject.tokenizer,
        _first_tokens(run, kept["fit"].refused, "how it refuses"),
        _first_tokens(run, kept["fit"].answered, "how it answers"),
    )
    counts = {label: tally([outcomes[label][text] for text in run.material.fit[label]]) for label in Label}
    return Observation(counts[Label.REFUSED], counts[Label.ANSWERED], kept["fit"], kept["select"], openings)


def _behaviour(run: Context, texts: Sequence[str], label: Label) -> list[Outcome]:
    completions = complete(
        run.subject,
        run.chat.encode(texts),
        max_new_tokens=run.settings.observe.max_new_tokens,
        title=f"observe: prompts labelled {label}",
        progress=run.progress,
    )
    return [judgement.outcome for judgement in judge_all(texts, completions)]


def _first_tokens(run: Context, texts: Sequence[str], title: str) -> Tensor:
    return first_token_logprobs(run.subject, run.chat.encode(texts), title=title, progress=run.progress)


def _fit(run: Context, seen: Observation) -> tuple[Tensor, list[Stability]]:
    """The difference of means at every place, and how far it depends on which half of the prompts was seen."""
    chosen = run.settings.evaluation
    sides: list[tuple[Halves, Moments]] = []
    for texts in (seen.fit.refused, seen.fit.answered):
        halves = Halves(len(texts), range(chosen.seed, chosen.seed + chosen.halvings))
        sequences, positions = run.chat.encode(texts), run.chat.positions
        moments = collect(run.subject, sequences, positions, also=halves.update, progress=run.progress)
        sides.append((halves, moments))
    return difference_of_means(sides[0][1], sides[1][1]), stability(sides[0], sides[1], run.chat.positions)


def _candidates(run: Context, seen: Observation, raw: Tensor) -> list[Candidate]:
    """Every (position, layer) with its norm and how well its projection separates the select prompts."""
    norms = raw.norm(dim=-1)
    separation = _separation(run, raw, seen.select.refused, seen.select.answered)
    return [
        Candidate(position, layer, float(norms[p, layer]), float(separation[p, layer]))
        for p, position in enumerate(run.chat.positions)
        for layer in range(raw.shape[1])
        if norms[p, layer] > 0  # a template token's embedding is the same after every prompt
    ]


def _separation(run: Context, raw: Tensor, refused: Sequence[str], answered: Sequence[str]) -> Tensor:
    """AUROC [positions, L] of the projection on the direction at each place, refused against answered."""
    basis = raw / raw.norm(dim=-1, keepdim=True).clamp_min(1e-30)
    sides = [
        projections(run.subject, run.chat.encode(texts), basis, progress=run.progress) for texts in (refused, answered)
    ]
    return auroc(sides[0], sides[1])


def _sensitivity(run: Context, raw: Tensor, steadiness: list[Stability]) -> Sensitivity:
    chosen = run.settings.evaluation
    refused, answered = (run.material.report[label][: chosen.separation_prompts] for label in Label)
    found: list[Separation] = []
    if refused and answered:
        values = run.stages.tensor("separation", lambda: _separation(run, raw, refused, answered))
        found = [
            Separation(position=position, layer=layer, auroc=float(values[p, layer]))
            for p, position in enumerate(run.chat.positions)
            for layer in range(values.shape[1])
        ]
    return Sensitivity(
        halvings=chosen.halvings,
        seed=chosen.seed,
        stability=steadiness,
        separation=found,
        n_refused=len(refused) if found else 0,
        n_answered=len(answered) if found else 0,
    )


def _scorer(run: Context, seen: Observation) -> EffectScorer:
    refused, answered = run.chat.encode(seen.select.refused), run.chat.encode(seen.select.answered)
    # Fit prompts may serve here: what was fitted to them is the difference between the sides, not this KL.
    harmless = [*answered, *run.chat.encode(seen.fit.answered)][: run.settings.selection.kl_prompts]
    baseline = run.stages.tensor(
        "baseline",
        lambda: first_token_logprobs(run.subject, harmless, title="baseline", progress=run.progress),
    )
    return EffectScorer(run.subject, refused, answered, harmless, seen.openings.token_ids, baseline)


def _provenance(run: Context, seen: Observation) -> Provenance:
    subject = run.subject
    return Provenance(
        subject.source,
        subject.revision,
        subject.config_hash,
        subject.anatomy.width,
        subject.anatomy.layers,
        run.chat.hash,
        digest([seen.fit.refused, seen.fit.answered]),
        "difference_of_means",
    )


def _over(
    run: Context, stage: str, some: Sequence[Candidate], kind: type[T], measure: Callable[[Candidate], T]
) -> list[T]:
    """Measure each candidate, with progress, keeping each result as soon as it is there."""
    by_key = {f"{c.position},{c.layer}": c for c in some}
    values: list[T] = []
    with run.progress.track(f"{stage}: {len(some)} candidates", len(some)) as advance:
        for value in run.stages.each(stage, by_key, kind, lambda key: measure(by_key[key])):
            values.append(value)
            advance(1)
    return values
