"""RunRecord: everything the figures of a run came from, as versioned JSON."""

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from abliterate import __version__
from abliterate.anatomy.load import Subject
from abliterate.capture.contrast import Openings
from abliterate.directions.select import Candidate
from abliterate.directions.stability import Stability
from abliterate.edits.proof import Proof
from abliterate.errors import ArtifactError
from abliterate.evals.changes import Change, Shift
from abliterate.evals.costs import Costs
from abliterate.evals.drift import Drift
from abliterate.evals.harness import TaskScore
from abliterate.evals.judges import Agreement
from abliterate.evals.overrefusal import OverRefusal
from abliterate.evals.scores import Outcomes
from abliterate.evals.statistics import Mean
from abliterate.files import write_atomic
from abliterate.reports.geometry import Geometry

Variant = Literal["unedited", "edited", "random", "shuffled"]


class Facts(BaseModel):
    """A part of the record: frozen, and closed to unknown keys. A figure that is not a number is kept as "NaN"."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class Environment(Facts):
    """Where it ran."""

    python: str
    torch: str
    transformers: str
    platform: str
    device: str
    dtype: str


class ModelFacts(Facts):
    """Which model it was."""

    source: str
    revision: str
    architecture: str
    config_hash: str
    template_hash: str
    storage_dtype: str
    parameters: int
    width: int
    layers: int
    writers: int
    tied_embedding: bool
    form: str = "weights"  # what kind of edit is exact: weights or hooks
    obstacle: str = ""  # why the weights cannot carry it


class PromptFacts(Facts):
    """Which prompts were used, and for what: number by label and use (fit, select, report)."""

    sources: dict[str, str]
    hash: str
    used: dict[str, dict[str, int]]


class Observed(Facts):
    """What the unedited model did with the fit prompts, and the contrast that was kept of them."""

    refused: Outcomes
    answered: Outcomes
    kept_refused: int
    kept_answered: int
    openings: Openings


class Chosen(Facts):
    """The direction that was edited."""

    position: int
    layer: int
    norm: float
    basis_sha256: str


class Sample(Facts):
    """One report prompt before and after, truncated."""

    prompt: str
    label: str
    before: str
    before_outcome: str
    after: str
    after_outcome: str


class Scores(Facts):
    """One variant of the model on the report prompts.

    Attributes:
        variant: which one.
        refused: outcomes on the prompts labelled refused.
        answered: outcomes on those labelled answered.
        drift: against the unedited model, on answered prompts.
        agreement: of every two judges on all of these prompts.
        over_refusal: on borderline prompts.
        costs: loops, lengths, perplexity.
        tasks: metrics of lm-evaluation-harness.
        seed: of what was drawn to make a control.
        cosine: of a control's direction with the one that was edited.
        by_token: KL at each token of the answer.
    """

    variant: Variant
    refused: Outcomes
    answered: Outcomes
    drift: Drift | None = None
    agreement: list[Agreement] = []
    over_refusal: OverRefusal | None = None
    costs: Costs | None = None
    tasks: list[TaskScore] = []
    seed: int | None = None
    cosine: float | None = None
    by_token: list[Mean] = []


class Separation(Facts):
    """AUROC of the projection of the report prompts at one (position, layer), by their labels."""

    position: int
    layer: int
    auroc: float


class Sensitivity(Facts):
    """How much the direction depends on which prompts it was fitted to, and how far it separates others.

    Attributes:
        halvings: number of random halvings of the fit prompts.
        seed: of the first of them; the others follow.
        stability: by (position, layer).
        separation: by (position, layer), on report prompts, which neither fitted nor chose.
        n_refused: report prompts labelled refused.
        n_answered: report prompts labelled answered.
    """

    halvings: int
    seed: int
    stability: list[Stability]
    separation: list[Separation] = []
    n_refused: int = 0
    n_answered: int = 0


class RunRecord(Facts):
    """What was done to which model, with which settings, and what came of it."""

    schema_version: Literal["abliterate.record/1"] = "abliterate.record/1"
    tool_version: str = __version__
    command: str
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    environment: Environment
    settings: dict[str, Any]
    model: ModelFacts
    prompts: PromptFacts
    observed: Observed | None = None
    candidates: list[Candidate] = []
    chosen: Chosen | None = None
    geometry: Geometry | None = None
    strength: float | None = None
    proof: Proof | None = None
    sensitivity: Sensitivity | None = None
    scores: list[Scores] = []
    changes: list[Change] = []
    shifts: list[Shift] = []
    samples: list[Sample] = []
    seconds: dict[str, float] = {}

    def of(self, variant: Variant) -> Scores | None:
        """The scores of one variant, or None when it was not measured."""
        return next((s for s in self.scores if s.variant == variant), None)

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_atomic(path, (self.model_dump_json(indent=2) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> "RunRecord":
        """Read what `save` wrote.

        Raises:
            ArtifactError: the file is missing, damaged or of another schema version.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise ArtifactError(
                f"cannot read the record {path} ({str(error).splitlines()[0]})",
                "pass the record.json of a run",
            ) from error


def environment_of(subject: Subject) -> Environment:
    """Describe this machine and the libraries in use."""
    device = subject.model.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return Environment(
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=transformers.__version__,
        platform=platform.platform(),
        device=name,
        dtype=str(subject.model.dtype).removeprefix("torch."),
    )


def facts_of(subject: Subject, template_hash: str) -> ModelFacts:
    """Describe the model."""
    anatomy = subject.anatomy
    return ModelFacts(
        source=subject.source,
        revision=subject.revision,
        architecture=type(subject.model).__name__,
        config_hash=subject.config_hash,
        template_hash=template_hash,
        storage_dtype=str(subject.storage_dtype).removeprefix("torch."),
        parameters=sum(p.numel() for p in subject.model.parameters()),
        width=anatomy.width,
        layers=anatomy.layers,
        writers=len(anatomy.sites),
        tied_embedding=subject.study.layout.tied_head,
        form=anatomy.form.value,
        obstacle=anatomy.reason,
    )
