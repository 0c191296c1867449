"""The model card of an edited checkpoint: it says first that the model is edited, and then how, with what effect.

A card travels with the model, so it holds no path of the machine it was made on.
"""

import json
import re
import shlex
from collections.abc import Iterator

from pydantic import BaseModel

from abliterate.reports.cautions import cautions, judge_name
from abliterate.reports.formats import VARIANTS, model_name, portable_settings, portable_source, template
from abliterate.reports.record import RunRecord
from abliterate.reports.verdict import verdict
from abliterate.settings import Settings

__all__ = ["render_card", "reproduction"]

TAGS = ("abliterated", "abliterate", "refusal-ablation")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
# Verbs that start from a direction that was found before.
_FROM_DIRECTION = ("bake", "measure")


def render_card(record: RunRecord) -> str:
    """The README.md of the checkpoint that a run wrote, front matter included."""
    hub_id = _hub_id(record)
    return template("card.md.j2").render(
        record=record,
        name=model_name(record),
        hub_id=hub_id,
        front_matter=_front_matter(hub_id),
        version=record.tool_version,
        strength=1.0 if record.strength is None else record.strength,
        verdict=verdict(record),
        judge=judge_name(record),
        cautions=cautions(record),
        scores=[
            ("refused", [(VARIANTS[s.variant], s.refused) for s in record.scores]),
            ("answered", [(VARIANTS[s.variant], s.answered) for s in record.scores]),
        ],
        borderline=[(VARIANTS[s.variant], s.over_refusal) for s in record.scores if s.over_refusal is not None],
        drifts=[(VARIANTS[s.variant], s.drift) for s in record.scores if s.drift is not None],
        sources=", ".join(f"{label}: {portable_source(s)}" for label, s in record.prompts.sources.items()),
        remote_code=portable_settings(record.settings).get("model.trust_remote_code") is True,
        command=reproduction(record),
    )


def reproduction(record: RunRecord) -> str:
    """The command that makes the same again: the verb, the model at its revision, and every setting off its default."""
    words = ["abliterate", record.command]
    if record.command != "demo":
        words.append(" ".join(model_name(record).split()))
    if record.command in _FROM_DIRECTION:
        words.append("direction.safetensors")
    options = [("--revision", record.model.revision)] if _hub_id(record) else []
    options += [("--set", f"{key}={value}") for key, value in _changed(record)]
    return " \\\n  ".join(shlex.join(part) for part in (words, *options))


def _hub_id(record: RunRecord) -> str | None:
    """The base model's hub id; a relative directory may look like one, but has no commit."""
    source = record.model.source
    return source if record.model.revision != "local" and _HUB_ID.fullmatch(source) else None


def _front_matter(base: str | None) -> str:
    """YAML, in which every JSON string is a string."""
    # Of the hub's four relations (adapter, merge, quantized, finetune) only the last means changed weights.
    lines = [f"base_model: {json.dumps(base)}", "base_model_relation: finetune"] if base else []
    lines += ["library_name: transformers", "pipeline_tag: text-generation", "tags:"]
    return "\n".join([*lines, *(f"- {tag}" for tag in TAGS)])


def _changed(record: RunRecord) -> Iterator[tuple[str, str]]:
    """Settings off their defaults, in TOML notation; the revision is given as the commit it stood for."""
    defaults = _defaults()
    settings = portable_settings(record.settings) | {"model.revision": None}
    if record.strength is not None:
        settings["edit.strength"] = record.strength
    for key, value in settings.items():
        if value is not None and value != defaults.get(key):
            # A backtick could end the block of code that this stands in.
            yield key, json.dumps(value, ensure_ascii=False).replace("`", "\\u0060")


def _defaults() -> dict[str, object]:
    """Dotted defaults, read off the fields: an instance of `Settings` would read the environment too."""
    sections = {name: field.default for name, field in Settings.model_fields.items()}
    return {
        f"{name}.{key}": value
        for name, section in sections.items()
        if isinstance(section, BaseModel)
        for key, value in section.model_dump(mode="json").items()
    }
