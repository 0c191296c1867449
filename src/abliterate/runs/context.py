"""What every stage of a run needs: the model, its chat format, the prompts, the settings, and where it resumes."""

from dataclasses import dataclass

from abliterate import __version__
from abliterate.anatomy.load import Subject, load
from abliterate.capture.chat import Chat
from abliterate.errors import SettingsError
from abliterate.evals.harness import check_tasks
from abliterate.evals.judges import BUILTIN
from abliterate.files import digest
from abliterate.progress import SILENT, Progress
from abliterate.reports.record import PromptFacts, RunRecord, environment_of, facts_of
from abliterate.runs.material import Material
from abliterate.runs.resume import Stages, fingerprint
from abliterate.settings import Settings


@dataclass(frozen=True)
class Context:
    """One run over one model.

    Attributes:
        subject: the unedited model.
        settings: resolved.
        chat: its template with the system prompt.
        material: the prompts by use.
        stages: keeps what is done.
        progress: told of long work.
    """

    subject: Subject
    settings: Settings
    chat: Chat
    material: Material
    stages: Stages
    progress: Progress

    @classmethod
    def open(cls, source: str, settings: Settings, progress: Progress = SILENT) -> "Context":
        """Load the prompts (fast to fail) and then the model, as the settings say.

        Raises:
            UserError: as `load` and `Material.from_settings`.
        """
        _check(settings)
        material = Material.from_settings(settings)
        return cls.of(open_subject(source, settings), settings, progress, material)

    @classmethod
    def of(
        cls,
        subject: Subject,
        settings: Settings,
        progress: Progress = SILENT,
        material: Material | None = None,
    ) -> "Context":
        """A run over a model that is loaded already."""
        _check(settings)
        material = material or Material.from_settings(settings)
        chat = Chat(subject.tokenizer, settings.model.system_prompt)
        measured = settings.model_dump(mode="json", exclude={"cache"})
        key = digest([__version__, fingerprint(subject), chat.hash, material.hash, measured])
        return cls(subject, settings, chat, material, Stages(settings.cache / "runs" / key[:32], progress), progress)

    def record(self, command: str) -> RunRecord:
        """A record of the model, prompts and settings, to which a command adds what it did."""
        return RunRecord(
            command=command,
            environment=environment_of(self.subject),
            settings=self.settings.model_dump(mode="json"),
            model=facts_of(self.subject, self.chat.hash),
            prompts=PromptFacts(sources=self.material.sources, hash=self.material.hash, used=self.material.counts()),
        )


def _check(settings: Settings) -> None:
    """Refuse, before any work, what would fail after it.

    Raises:
        SettingsError: early stop with another judge than the built-in one.
        MissingExtra: tasks without the harness that runs them.
    """
    chosen = settings.evaluation
    if chosen.early_stop and chosen.judges != (BUILTIN,):
        raise SettingsError(
            "early stop ends completions that the built-in judge is certain of, and other judges would see them cut",
            "leave out --early-stop, or evaluation.judges",
        )
    check_tasks(chosen.tasks)


def open_subject(source: str, settings: Settings) -> Subject:
    """Load a model as the settings say.

    Raises:
        UserError: as `load`.
    """
    chosen = settings.model
    return load(
        source,
        revision=chosen.revision,
        dtype=chosen.dtype,
        device=chosen.device,
        chat_template=chosen.chat_template,
        trust_remote_code=chosen.trust_remote_code,
    )
