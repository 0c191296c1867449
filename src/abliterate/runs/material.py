"""The prompts of one run, by use: to fit, to select, to report on."""

from collections.abc import Mapping
from dataclasses import dataclass

from abliterate.capture.prompts import Label, Split, load_prompts
from abliterate.errors import PromptsError
from abliterate.files import digest
from abliterate.settings import PromptSettings


@dataclass(frozen=True)
class Material:
    """Prompts by use and label; no prompt has two uses.

    Attributes:
        fit: estimate the direction.
        select: choose among candidates.
        report: give the figures.
        sources: where each came from.
        hash: of all of them.
    """

    fit: Mapping[Label, list[str]]
    select: Mapping[Label, list[str]]
    report: Mapping[Label, list[str]]
    sources: dict[str, str]
    hash: str

    @classmethod
    def from_settings(cls, settings: PromptSettings) -> "Material":
        """Load and split the sources that the settings name.

        Raises:
            PromptsError: a source is unusable, or a prompt to report on was also given to fit or select.
        """
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
        separate = {label: load_prompts(source, label) for label, source in named.items() if source is not None}
        fit = {label: main[label].take(Split.FIT, settings.fit_limit) for label in Label}
        select = {label: main[label].take(Split.SELECT, settings.select_limit) for label in Label}
        report = {
            label: separate[label].take(None, settings.report_limit)
            if label in separate
            else main[label].take(Split.REPORT, settings.report_limit)
            for label in Label
        }
        _refuse_overlap(report, fit, select)
        sources = {str(label): prompts.source for label, prompts in main.items()}
        sources |= {f"report_{label}": prompts.source for label, prompts in separate.items()}
        return cls(fit, select, report, sources, digest([fit, select, report]))

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of prompts by label and use."""
        uses = {"fit": self.fit, "select": self.select, "report": self.report}
        return {label: {use: len(texts[label]) for use, texts in uses.items()} for label in Label}


def _refuse_overlap(report: Mapping[Label, list[str]], *others: Mapping[Label, list[str]]) -> None:
    used = {text for texts in others for label in Label for text in texts[label]}
    if shared := used & {text for label in Label for text in report[label]}:
        raise PromptsError(
            f"{len(shared)} prompts to report on were also given to fit or select, for one {min(shared)[:60]!r}",
            "a prompt that chose something cannot be reported on; remove them from one of the sources",
        )
