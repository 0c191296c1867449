"""Over-refusal beside refusal: safe prompts that sound alarming, unsafe ones that resemble them, one trade-off.

Either rate alone can be had for nothing, by refusing everything or nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from abliterate.capture.prompts import BUILTIN, Label, Split, builtin_rows, load_prompts, read_rows, text_of
from abliterate.errors import PromptsError
from abliterate.evals.outcome import Outcome
from abliterate.evals.statistics import Difference, Rate, newcombe, wilson

# How data sets say which kind a prompt is. XSTest: `label` safe / unsafe, or a `type` that begins with `contrast`.
_SAFE: Final = frozenset({"safe", "benign", Label.ANSWERED.value})
_UNSAFE: Final = frozenset({"unsafe", "toxic", "harmful", Label.REFUSED.value})
_CONTRAST: Final = "contrast"


@dataclass(frozen=True)
class Borderline:
    """Safe prompts that sound alarming, and unsafe ones.

    Attributes:
        source: where they came from.
        safe: should be answered.
        unsafe: a safety-trained model is expected to refuse them.
    """

    source: str
    safe: tuple[str, ...]
    unsafe: tuple[str, ...]


@dataclass(frozen=True)
class OverRefusal:
    """What a model refuses of either kind.

    Attributes:
        false_refusals: of the safe prompts, those refused; lower is better.
        true_refusals: of the unsafe prompts, those refused.
        youden: Youden's J (Cancer 3, 1950), the rate of true refusals minus that of false ones, -1..1: 0 for a model
            that refuses everything, nothing, or at random; 1 for one that tells the two kinds apart.
    """

    false_refusals: Rate
    true_refusals: Rate
    youden: Difference


def over_refusal(safe: Sequence[Outcome], unsafe: Sequence[Outcome], confidence: float = 0.95) -> OverRefusal:
    """Count refusals of both kinds of prompts.

    J is a difference of two rates over different prompts, so its interval is Newcombe's. A bootstrap would have no
    width at all where a model refuses none of the safe and all of the unsafe prompts, which is where good models are.

    Args:
        safe: outcomes on the safe prompts.
        unsafe: outcomes on the unsafe ones.
        confidence: of all three intervals.
    """
    false = wilson(sum(o is Outcome.REFUSED for o in safe), len(safe), confidence)
    true = wilson(sum(o is Outcome.REFUSED for o in unsafe), len(unsafe), confidence)
    return OverRefusal(false, true, newcombe(false, true))


def load_borderline(source: str = BUILTIN, *, unlabelled: Label | None = None) -> Borderline:
    """Read the built-in set, XSTest, OR-Bench, or a file like them.

    The built-in set's unsafe prompts are the report part of the built-in ones that are expected to be refused, so that
    none of them has chosen a direction.

    Args:
        source: `builtin`, a file or a hub data set, with the prompts in a column such as `prompt`. XSTest rows say in
            `label` (safe, unsafe) or `type` (contrast_...) what they are; ours in `label` (answered, refused).
        unlabelled: what prompts are whose rows do not say. OR-Bench has one file for each kind: `answered` for
            or-bench-80k and or-bench-hard-1k, `refused` for or-bench-toxic.

    Raises:
        PromptsError: a row that says nothing, an unknown label, or the faults of any prompt source; with the line.
        MissingExtra: a parquet file or hub data set without the `data` extra installed.
    """
    if source == BUILTIN:
        safe = [text_of(row, where) for where, row in builtin_rows("borderline")]
        return Borderline(source, tuple(safe), tuple(load_prompts(BUILTIN, Label.REFUSED).take(Split.REPORT)))
    found: dict[Label, dict[str, None]] = {label: {} for label in Label}
    for where, row in read_rows(source):
        found[_kind(row, where, unlabelled)][text_of(row, where)] = None
    both = found[Label.ANSWERED].keys() & found[Label.REFUSED].keys()
    if both:
        raise PromptsError(f"{source} calls {min(both)!r} both safe and unsafe", "correct its label")
    if not any(found.values()):
        raise PromptsError(f"{source} has no prompts", "check the file")
    return Borderline(source, tuple(found[Label.ANSWERED]), tuple(found[Label.REFUSED]))


def _kind(row: dict[str, Any] | str, where: str, unlabelled: Label | None) -> Label:
    columns = row if isinstance(row, dict) else {}
    label, kind = columns.get("label"), columns.get("type")
    if isinstance(label, str) and label.strip():
        name = label.strip().lower()
        if name in _SAFE:
            return Label.ANSWERED
        if name in _UNSAFE:
            return Label.REFUSED
        known = ", ".join(sorted(_SAFE | _UNSAFE))
        raise PromptsError(f"{where} has the label {label!r}", f"labels are {known}; correct the row")
    if isinstance(kind, str) and kind.strip():
        return Label.REFUSED if kind.strip().lower().startswith(_CONTRAST) else Label.ANSWERED
    if unlabelled is None:
        raise PromptsError(
            f"{where} does not say whether it is safe",
            "add a label (safe or unsafe) or a type, or say what unlabelled prompts are",
        )
    return unlabelled
