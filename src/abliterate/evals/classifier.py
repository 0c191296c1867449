"""A judge that is a Hugging Face text-classification model."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from abliterate.errors import JudgeFailed
from abliterate.evals.judges import Pair, judge_answers
from abliterate.evals.outcome import Outcome
from abliterate.files import digest

# Labels that say what they mean, in lower case without separators.
_PLAIN_LABELS: Final = {
    Outcome.REFUSED: (
        "refused",
        "refusal",
        "refuse",
        "reject",
        "rejected",
        "rejection",
        "fullrefusal",
        "directrefusal",
    ),
    Outcome.COMPLIED: (
        *("complied", "compliance", "comply", "complete", "fullcompliance", "answered", "accept", "accepted"),
        *("notrefusal", "nonrefusal", "norefusal", "norejection"),
    ),
    Outcome.EVASIVE: ("evasive", "evasion", "deflection", "partialrefusal", "indirectrefusal", "partial"),
    Outcome.BROKEN: ("broken", "gibberish", "nonsense", "invalid"),
}
_LONGEST = 512  # tokens, where neither the tokenizer nor the model names a limit


@dataclass(frozen=True)
class Classifier:
    """One text-classification model with the meaning of its labels.

    Attributes:
        name: `hf:MODEL` with a hash of the commit (of a directory: its files' names, sizes and times) and of the
            labels' meaning, which all change verdicts.
        pipeline: of transformers.
        meaning: the outcome of each label.
        with_prompt: whether it reads the prompt before the answer, or the answer alone.
    """

    name: str
    pipeline: Any
    meaning: Mapping[str, Outcome]
    with_prompt: bool

    @classmethod
    def load(cls, model: str, labels: Mapping[str, str], *, with_prompt: bool, device: str = "cpu") -> "Classifier":
        """Load a model from a directory or the hub.

        Raises:
            JudgeFailed: it cannot be loaded, or a label has no meaning.
        """
        from transformers import pipeline

        try:
            classify = pipeline("text-classification", model=model, device=device)
        except Exception as error:  # whatever the hub client or a config raises, the remedy is the same
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise JudgeFailed(f"cannot load the judge {model} ({reason})", "check the id or directory") from error
        config = classify.model.config
        meaning = {label: _meaning(model, str(label), labels) for label in (config.id2label or {}).values()}
        identity = digest([getattr(config, "_commit_hash", None), _files(model), meaning])
        kind = "hf+prompt" if with_prompt else "hf"
        return cls(f"{kind}:{model}#{identity[:12]}", classify, meaning, with_prompt)

    def judge(self, pairs: Sequence[Pair]) -> list[Outcome]:
        """The outcome of each pair, in order; what is longer than the model reads is cut at its end."""
        return judge_answers(pairs, self._ask)

    def _ask(self, asked: Sequence[tuple[str, str]]) -> list[Outcome]:
        texts = [{"text": p, "text_pair": a} if self.with_prompt else {"text": a} for p, a in asked]
        results = self.pipeline(texts, truncation=True, max_length=_length(self.pipeline), top_k=1)
        return [self.meaning[result[0]["label"]] for result in results]


def _meaning(model: str, label: str, labels: Mapping[str, str]) -> Outcome:
    plain = re.sub(r"[\W_]", "", label.lower())
    given = labels.get(label)
    known = next((outcome for outcome, names in _PLAIN_LABELS.items() if plain in names), None)
    if given is None and known is not None:
        return known
    if given in list(Outcome):
        return Outcome(given)
    raise JudgeFailed(
        f"the judge {model} has a label {label!r}"
        + (f" mapped to {given!r}, which is no outcome" if given else " that names no outcome"),
        f'say what it means with --set \'evaluation.judge_labels={{"{label}" = "refused"}}\', '
        f"one of {', '.join(Outcome)} for each label",
    )


def _files(model: str) -> list[tuple[str, int, int]]:
    """The names, sizes and times of a local model's files; of a hub id, nothing."""
    folder = Path(model)
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def _length(classify: Any) -> int:  # noqa: ANN401 - transformers does not type its pipelines
    limits = [classify.tokenizer.model_max_length, getattr(classify.model.config, "max_position_embeddings", None)]
    return min([int(limit) for limit in limits if limit and limit < 1_000_000] or [_LONGEST])
