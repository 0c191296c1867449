"""The prompts of one run, by use: to fit, to select, to report on."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from abliterate.capture.prompts import BUILTIN, Label, PromptSet, load_prompts
from abliterate.capture.uses import Fit, Report, Select, Used, reportable, take
from abliterate.errors import PromptsError
from abliterate.evals.overrefusal import load_borderline
from abliterate.files import digest
from abliterate.settings import EvaluationSettings, PromptSettings, Settings


@dataclass(frozen=True)
class Material:
    """Prompts by use and label; no prompt has two uses.

    Attributes:
        fit: estimate the direction.
        select: choose among candidates.
        report: give the figures.
        sources: where each came from.
        hash: of all of them.
        borderline: safe prompts that sound alarming (`answered`) and unsafe ones (`refused`); empty where over-refusal
            is not measured, or where the report prompts stand in for the unsafe ones.

    Raises:
        TypeError: prompts to report on that are for another use.
        PromptsError: a prompt to report on also has another use.
    """

    fit: Mapping[Label, Used[Fit]]
    select: Mapping[Label, Used[Select]]
    report: Mapping[Label, Used[Report]]
    sources: dict[str, str]
    hash: str
    borderline: Mapping[Label, Used[Report]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for prompts in (*self.report.values(), *self.borderline.values()):
            reportable(prompts)
        chosen = {text for use in (self.fit, self.select) for texts in use.values() for text in texts}
        _refuse_overlap(chosen, self.report, "prompts to report on")
        _refuse_overlap(chosen, self.borderline, "borderline prompts")

    @classmethod
    def from_settings(cls, settings: Settings) -> "Material":
        """Load and split the sources that the settings name.

        Raises:
            PromptsError: a source is unusable, or a prompt to report on was also given to fit or select.
        """
        main, separate = _load(settings.prompts)
        limits = settings.prompts
        fit = {label: take(main[label], Fit, limits.fit_limit) for label in Label}
        select = {label: take(main[label], Select, limits.select_limit) for label in Label}
        report = {
            # A source that is named for the report alone has chosen nothing, so all of it may be reported on.
            label: Used(Report, separate[label].take(None, limits.report_limit))
            if label in separate
            else take(main[label], Report, limits.report_limit)
            for label in Label
        }
        borderline = _borderline(settings.evaluation)
        sources = {str(label): prompts.source for label, prompts in main.items()}
        sources |= {f"report_{label}": prompts.source for label, prompts in separate.items()}
        if any(borderline.values()):
            sources["borderline"] = settings.evaluation.borderline
        return cls(fit, select, report, sources, digest([fit, select, report, borderline]), borderline)

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of prompts by label and use."""
        uses: dict[str, Mapping[Label, tuple[str, ...]]] = {
            "fit": self.fit,
            "select": self.select,
            "report": self.report,
        }
        return {label: {use: len(texts[label]) for use, texts in uses.items()} for label in Label}


def _load(settings: PromptSettings) -> tuple[dict[Label, PromptSet], dict[Label, PromptSet]]:
    """The sources that are split three ways, and those to report on alone."""
    main = {
        Label.REFUSED: load_prompts(settings.refused, Label.REFUSED),
        Label.ANSWERED: load_prompts(settings.answered, Label.ANSWERED),
    }
    if shared := set(main[Label.REFUSED].texts) & set(main[Label.ANSWERED].texts):
        raise PromptsError(
            f"the prompt {min(shared)[:60]!r} is labelled refused in {settings.refused} and answered in"
            f" {settings.answered}",
            "a prompt needs one label; remove it from one of them",
        )
    named = {Label.REFUSED: settings.report_refused, Label.ANSWERED: settings.report_answered}
    return main, {label: load_prompts(source, label) for label, source in named.items() if source is not None}


def _borderline(settings: EvaluationSettings) -> dict[Label, Used[Report]]:
    """At most `borderline_limit` prompts of each kind.

    The built-in set has no unsafe prompts of its own: the run's report prompts, which are judged anyway, stand in.
    """
    if not settings.borderline_limit:
        return {label: Used(Report) for label in Label}
    kind = settings.borderline_unlabelled
    found = load_borderline(settings.borderline, unlabelled=None if kind is None else Label(kind))
    unsafe = () if settings.borderline == BUILTIN else found.unsafe
    return {
        label: Used(Report, PromptSet(label, found.source, texts).take(None, settings.borderline_limit))
        for label, texts in ((Label.ANSWERED, found.safe), (Label.REFUSED, unsafe))
    }


def _refuse_overlap(chosen: set[str], others: Mapping[Label, Used[Report]], what: str) -> None:
    if shared := chosen & {text for texts in others.values() for text in texts}:
        raise PromptsError(
            f"{len(shared)} {what} were also given to fit or select, for one {min(shared)[:60]!r}",
            "a prompt that chose something cannot be reported on; remove them from one of the sources",
        )
