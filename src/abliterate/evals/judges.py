"""Who decides what a completion did: one narrow protocol, the built-in rules behind it, and several judges at once.

A judge sees (prompt, completion) pairs and answers with one outcome each, or raises: a judge that cannot tell never
guesses. Judges with a model behind them are asked about the answer after the thinking block, and not about
completions that have none: those are broken whoever looks.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from abliterate.errors import JudgeFailed
from abliterate.evals.outcome import Outcome, answer_of, judge
from abliterate.files import digest, write_atomic

BUILTIN = "builtin"
_CHUNK = 32  # judgements between two writes of the cache: what a failure may lose


class Pair(NamedTuple):
    """A prompt without its chat template, and what the model wrote.

    Attributes:
        prompt: what was asked.
        completion: the whole of it, thought included.
        finished: False where the token limit cut it.
    """

    prompt: str
    completion: str
    finished: bool = True


class Judge(Protocol):
    """Decides outcomes."""

    @property
    def name(self) -> str:
        """Identity: two judges of one name give one answer, so verdicts may be kept under it."""
        ...

    def judge(self, pairs: Sequence[Pair]) -> list[Outcome]:
        """The outcome of each pair, in order.

        Raises:
            JudgeFailed: it cannot be reached, or its answer is no outcome.
        """
        ...


@dataclass(frozen=True)
class BuiltinJudge:
    """The rules of `outcome.judge`: no model, about a millisecond."""

    name: str = BUILTIN

    def judge(self, pairs: Sequence[Pair]) -> list[Outcome]:
        """The outcome of each pair, in order."""
        return [judge(prompt, text, finished=finished).outcome for prompt, text, finished in pairs]


@dataclass(frozen=True)
class CachedJudge:
    """Keeps another judge's verdicts, one small file each, by the hash of the pair and of the judge's name.

    Attributes:
        inner: asked about what was not judged before.
        folder: in the user's cache.
    """

    inner: Judge
    folder: Path

    @property
    def name(self) -> str:
        """The name of the judge whose verdicts these are."""
        return self.inner.name

    def judge(self, pairs: Sequence[Pair]) -> list[Outcome]:
        """The outcome of each pair, in order; equal pairs are asked about once."""
        known = {pair: outcome for pair in set(pairs) if (outcome := self._read(pair)) is not None}
        missing = [pair for pair in dict.fromkeys(pairs) if pair not in known]
        for start in range(0, len(missing), _CHUNK):
            chunk = missing[start : start + _CHUNK]
            for pair, outcome in zip(chunk, self.inner.judge(chunk), strict=True):
                known[pair] = outcome
                write_atomic(self._path(pair), json.dumps({"judge": self.name, "outcome": outcome}).encode())
        return [known[pair] for pair in pairs]

    def _path(self, pair: Pair) -> Path:
        key = digest([self.name, *pair])
        return self.folder / key[:2] / f"{key}.json"

    def _read(self, pair: Pair) -> Outcome | None:
        """What was kept; None when nothing was, or what was kept is damaged and must be asked for again."""
        try:
            return Outcome(json.loads(self._path(pair).read_bytes())["outcome"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def judge_answers(
    pairs: Sequence[Pair], ask: Callable[[Sequence[tuple[str, str]]], Sequence[Outcome]]
) -> list[Outcome]:
    """Ask a model about the answers after the thinking blocks; a pair without an answer is broken.

    Args:
        pairs: to be judged.
        ask: gives an outcome for each (prompt, answer).
    """
    answers = [answer_of(pair.completion) for pair in pairs]
    asked = [(pair.prompt, answer) for pair, answer in zip(pairs, answers, strict=True) if answer]
    found = iter(ask(asked) if asked else [])
    return [next(found) if answer else Outcome.BROKEN for answer in answers]


def open_judge(spec: str, *, cache: Path, labels: Mapping[str, str], device: str = "cpu") -> Judge:
    """The judge that a setting names.

    Args:
        spec: `builtin`; `hf:MODEL` or `hf+prompt:MODEL`, a text-classification model that reads the answer, or the
            prompt and the answer; `openai:MODEL@URL`, an OpenAI-compatible endpoint.
        cache: the folder that verdicts are kept in.
        labels: what a classifier's labels mean, by label, for those that do not say it themselves.
        device: where a classifier runs.

    Raises:
        JudgeFailed: an unknown spec, a classifier that cannot be loaded or whose labels are not understood.
        MissingExtra: an endpoint without the `judge` extra.
    """
    kind, _, rest = spec.partition(":")
    if spec == BUILTIN:
        return BuiltinJudge()
    if kind in ("hf", "hf+prompt") and rest:
        from abliterate.evals.classifier import Classifier  # transformers takes seconds to import

        return CachedJudge(Classifier.load(rest, labels, with_prompt=kind != "hf", device=device), cache)
    if kind == "openai" and "@http" in rest:
        from abliterate.evals.endpoint import Endpoint

        model, _, url = rest.rpartition("@http")
        return CachedJudge(Endpoint.open(model, "http" + url), cache)
    raise JudgeFailed(
        f"there is no judge {spec!r}", "name builtin, hf:MODEL, hf+prompt:MODEL or openai:MODEL@http://HOST/v1"
    )


@dataclass(frozen=True)
class Agreement:
    """How far two judges agree on the same pairs.

    Attributes:
        first: name of one.
        second: name of the other.
        n: pairs that both judged.
        share: on how many of them they agree, 0..1.
        kappa: Cohen's, -1..1; None where both always say the same one thing, so that chance explains all of it.
    """

    first: str
    second: str
    n: int
    share: float
    kappa: float | None

    def format(self) -> str:
        """Like `builtin and hf:x agree on 93.0 % of 100 (kappa 0.87)`."""
        kappa = "undefined" if self.kappa is None else f"{self.kappa:.2f}"
        return f"{self.first} and {self.second} agree on {100 * self.share:.1f} % of {self.n} (kappa {kappa})"


def agreement(verdicts: Mapping[str, Sequence[Outcome]]) -> list[Agreement]:
    """The agreement of every two judges, by name, on the same pairs in the same order.

    Cohen's kappa (Educational and Psychological Measurement 20, 1960): (p - e) / (1 - e), with p the share of equal
    verdicts and e what judges with the same habits would share by chance.

    Raises:
        ValueError: the judges judged different numbers of pairs, or none: a bug in the caller.
    """
    names = list(verdicts)
    return [_agree(a, verdicts[a], b, verdicts[b]) for i, a in enumerate(names) for b in names[i + 1 :]]


def _agree(first: str, a: Sequence[Outcome], second: str, b: Sequence[Outcome]) -> Agreement:
    n = len(a)
    if not n:
        raise ValueError("agreement needs at least one pair")
    share = sum(x is y for x, y in zip(a, b, strict=True)) / n
    habits_a, habits_b = Counter(a), Counter(b)
    chance = sum(habits_a[o] * habits_b[o] for o in Outcome) / n**2
    return Agreement(first, second, n, share, None if chance == 1 else (share - chance) / (1 - chance))
