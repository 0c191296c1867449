"""Every dial, with its default. A TOML file, environment variables and flags give the same settings.

`ABLITERATE_SELECTION__KL_LIMIT=0.2`, `--set selection.kl_limit=0.2` and

    [selection]
    kl_limit = 0.2

mean the same; a flag wins over the environment, which wins over the file. Unknown keys are errors everywhere.
"""

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from platformdirs import user_cache_path
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from abliterate.errors import SettingsError

ENV_PREFIX = "ABLITERATE_"


class Section(BaseModel):
    """A group of settings: frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSettings(Section):
    """How the model is loaded and addressed."""

    revision: str | None = Field(None, description="hub branch, tag or commit")
    dtype: str = Field("auto", description="dtype of computation; auto: the checkpoint's, float32 on a CPU")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    chat_template: Path | None = Field(None, description="a Jinja file instead of the tokenizer's template")
    system_prompt: str | None = Field(None, description="put before every prompt; empty: the template's default")
    trust_remote_code: bool = Field(False, description="run code that comes with the model")


class PromptSettings(Section):
    """Where prompts come from and how many are used. Each source is split by hash into fit, select and report."""

    refused: str = Field("builtin", description="prompts expected to be refused")
    answered: str = Field("builtin", description="prompts expected to be answered")
    report_refused: str | None = Field(None, description="another source to report on, used whole")
    report_answered: str | None = Field(None, description="another source to report on, used whole")
    fit_limit: int = Field(128, ge=1, description="prompts of each label to fit to")
    select_limit: int = Field(32, ge=1, description="prompts of each label to select with")
    report_limit: int = Field(120, ge=1, description="prompts of each label to report on")


class ObserveSettings(Section):
    """How the model's own behaviour on the prompts is found out."""

    max_new_tokens: int = Field(24, ge=4, description="length of the completions that are classified")
    minimum: int = Field(12, ge=2, description="fewest prompts on each side of the contrast")


class SelectionSettings(Section):
    """The filters of Arditi et al. 2024, and how much is spent on the choice."""

    kl_limit: float = Field(0.1, gt=0, description="largest first-token KL on answered prompts, in nats")
    induce_share: float = Field(0.25, description="share of the way from answering to refusing that adding must cover")
    depth: float = Field(0.8, gt=0, le=1, description="only layers in this first part of the model")
    separation: float = Field(0.0, ge=0, le=1, description="least AUROC on the select prompts of what is measured")
    screen_prompts: int = Field(8, ge=0, description="prompts to screen all candidates with; 0: measure all fully")
    kl_prompts: int = Field(96, ge=1, description="answered prompts for the KL: select, then fit")
    finalists: int = Field(12, ge=1, description="candidates measured in full after the screening")


class EditSettings(Section):
    """What is done with the direction."""

    strength: float = Field(1.0, ge=0, le=2, description="share of the component to remove")


JudgeName = Annotated[str, StringConstraints(pattern=r"^(builtin|hf(\+prompt)?:.+|openai:.+@https?://.+)$")]


class EvaluationSettings(Section):
    """How the outcome is measured."""

    max_new_tokens: int = Field(48, ge=4, description="length of the completions that are judged")
    judges: tuple[JudgeName, ...] = Field(
        ("builtin",),
        min_length=1,
        description="builtin, hf:MODEL, hf+prompt:MODEL, openai:MODEL@URL; the first decides",
    )
    judge_labels: dict[str, str] = Field({}, description="what a classifier's labels mean, where they do not say it")
    early_stop: bool = Field(False, description="stop a completion once the built-in judge is certain that it refuses")
    controls: tuple[Literal["random", "shuffled"], ...] = Field(
        ("random", "shuffled"),
        description="what else is removed: a random direction; one fitted to shuffled labels",
    )
    borderline: str = Field(
        "builtin", description="safe prompts that sound alarming: builtin, XSTest, OR-Bench, a file"
    )
    borderline_limit: int = Field(40, ge=0, description="borderline prompts of each kind; 0: not measured")
    borderline_unlabelled: Literal["answered", "refused"] | None = Field(
        None, description="what borderline prompts are whose rows do not say"
    )
    perplexity_file: Path | None = Field(None, description="a text to measure perplexity on")
    perplexity_windows: int = Field(64, ge=1, description="windows of 256 tokens of that text, from its start")
    tasks: tuple[str, ...] = Field((), description="tasks of lm-evaluation-harness: names or YAML files")
    task_limit: int | None = Field(None, ge=1, description="most documents of each task")
    task_batch: int = Field(8, ge=1, description="documents of a task at once")
    separation_prompts: int = Field(64, ge=0, description="report prompts of each label for the AUROC of every layer")
    halvings: int = Field(8, ge=1, description="random halvings of the fit prompts, for the direction's stability")
    seed: int = Field(0, description="of the controls, the halvings and the bootstrap")
    shown_characters: int = Field(200, ge=0, description="completions in records and reports are cut to this")


class Settings(BaseSettings):
    """The resolved settings of a run; the record keeps them."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    model: ModelSettings = ModelSettings()
    prompts: PromptSettings = PromptSettings()
    observe: ObserveSettings = ObserveSettings()
    selection: SelectionSettings = SelectionSettings()
    edit: EditSettings = EditSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    cache: Path = Field(default_factory=lambda: user_cache_path("abliterate"), description="where runs resume from")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments and environment only; `resolve` merges the file in below them."""
        return init_settings, env_settings


def resolve(
    *, config: Path | None = None, flags: Mapping[str, Any] | None = None, assignments: Sequence[str] = ()
) -> Settings:
    """Merge defaults, a TOML file, the environment and flags, in rising precedence.

    Args:
        config: a TOML file, or None.
        flags: dotted keys from command line options; None values were not given.
        assignments: `section.key=value` from `--set`, values in TOML notation or bare strings.

    Raises:
        SettingsError: an unreadable file, an unknown key, or a value out of range, by its dotted name.
    """
    _refuse_unknown_environment()
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    given |= dict(_assignment(text) for text in assignments)
    tree: dict[str, Any] = {}
    for key, value in given.items():
        _put(tree, key, value)
    base = _read(config) if config is not None else {}
    try:
        environment = Settings().model_dump(exclude_unset=True)
        return Settings(**_merge(_merge(base, environment), tree))
    except ValidationError as error:
        raise _explain(error) from error


def _read(config: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"cannot read {config} ({error})", "pass a TOML file with --config") from error


def _assignment(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise SettingsError(f"--set {text!r} is not key=value", "write for example --set selection.kl_limit=0.2")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def _put(tree: dict[str, Any], key: str, value: Any) -> None:  # noqa: ANN401 - any TOML value
    *sections, last = key.split(".")
    for number, section in enumerate(sections, 1):
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise SettingsError(f"{'.'.join(sections[:number])} is given twice", f"leave it out, or {key}")
    tree[last] = value


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if nested else value
    return merged


def _refuse_unknown_environment() -> None:
    """pydantic-settings passes over variables it does not know; a misspelt one would be lost in silence."""
    for name in os.environ:
        if not name.startswith(ENV_PREFIX):
            continue
        section, _, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
        field = Settings.model_fields.get(section)
        inner = getattr(field.annotation, "model_fields", {}) if field else {}
        if field is None or (key and key not in inner):
            raise SettingsError(f"unknown environment variable {name}", f"known settings are {known_keys()}")


def known_keys() -> str:
    """Every dotted key, for messages."""
    keys: list[str] = []
    for name, field in Settings.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        keys += [f"{name}.{key}" for key in inner] if inner else [name]
    return ", ".join(keys)


def _explain(error: ValidationError) -> SettingsError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return SettingsError(f"unknown settings key {key}", f"known settings are {known_keys()}")
    if first["type"] == "model_type":
        return SettingsError(f"{key} is a section, not a value", f"set its keys; known settings are {known_keys()}")
    return SettingsError(f"{key}: {first['msg'].lower()} (got {first['input']!r})", "correct the value")
