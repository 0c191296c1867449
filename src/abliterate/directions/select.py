"""Choosing among candidate directions by what they do, as Arditi et al. 2024 (appendix C; methods.md 2.2).

Each candidate is a difference of means at one (position, layer). A good one, when ablated, lowers the refusal score
on prompts that the model refuses (bypass); when added, raises it on prompts that it answers (induce); and when
ablated changes the answers to those little (KL). The paper measures all three for every candidate. Here every
candidate is screened on a few prompts first, by bypass and KL, and the best go on to the full measurement; with
`screen_prompts = 0` every candidate is measured in full, as the paper does. The screening
needs the KL too: the lowest bypass of all is that of directions without which the model says nothing sensible.

Where a refusal may open in many ways, adding a direction never brings the few learnt openings to even odds, which is
the paper's floor for induce. The caller therefore sets that floor between the model's own two levels.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from abliterate.errors import NoDirectionFound


@dataclass(frozen=True)
class Candidate:
    """One (position, layer) and what was measured of it; None is not measured.

    Attributes:
        position: template position, counted from the end.
        layer: block whose input was read.
        norm: norm of the raw difference of means.
        separation: AUROC of the projection on the select prompts, refused against answered.
        screen: mean refusal score of refused prompts under ablation, on the screening prompts.
        screen_kl: typical first-token KL of answered prompts under ablation, on the screening prompts.
        bypass: mean refusal score of refused prompts under ablation, on all select prompts.
        induce: mean refusal score of answered prompts under addition of the raw vector.
        kl: mean first-token KL of answered prompts under ablation, in nats.
        verdict: `chosen`, `passed`, or why not.
    """

    position: int
    layer: int
    norm: float
    separation: float
    screen: float | None = None
    screen_kl: float | None = None
    bypass: float | None = None
    induce: float | None = None
    kl: float | None = None
    verdict: str = ""


@dataclass(frozen=True)
class Effects:
    """The three measurements of one candidate."""

    bypass: float
    induce: float
    kl: float


@dataclass(frozen=True)
class Screened:
    """The two measurements of the screening."""

    bypass: float
    kl: float


@dataclass(frozen=True)
class Thresholds:
    """What a candidate must satisfy; the defaults are the paper's.

    Attributes:
        kl: largest first-token KL, in nats.
        induce: least refusal score (log-odds) under addition.
        depth: candidates from the last (1 - depth) of the layers are too close to the unembedding.
        separation: least AUROC of the projection on the select prompts; 0 asks nothing, as the paper does.
    """

    kl: float = 0.1
    induce: float = 0.0
    depth: float = 0.8
    separation: float = 0.0


def select(
    candidates: Sequence[Candidate],
    *,
    layers: int,
    thresholds: Thresholds,
    finalists: int,
    screen: Callable[[Sequence[Candidate]], Sequence[Screened]] | None,
    score: Callable[[Sequence[Candidate]], Sequence[Effects]],
) -> tuple[Candidate, list[Candidate]]:
    """Choose the candidate with the lowest bypass among those that pass the thresholds.

    Args:
        candidates: every (position, layer).
        layers: L.
        thresholds: the filters.
        finalists: how many of the screened are measured in full.
        screen: cheap measurements for many candidates, or None to measure all of them in full.
        score: the full measurement.

    Returns:
        The chosen candidate, and the table of all with their verdicts, in the order given.

    Raises:
        NoDirectionFound: none passes; the message shows the nearest ones.
    """
    table = {(c.position, c.layer): c for c in candidates}
    shallow = []
    for c in candidates:
        if c.layer >= int(thresholds.depth * layers):
            table[c.position, c.layer] = dataclasses.replace(c, verdict="too deep")
        elif c.separation < thresholds.separation:
            verdict = f"AUROC {c.separation:.2f} < {thresholds.separation:g}"
            table[c.position, c.layer] = dataclasses.replace(c, verdict=verdict)
        else:
            shallow.append(c)
    if screen is not None:
        screened = [
            dataclasses.replace(c, screen=cheap.bypass, screen_kl=cheap.kl, verdict="screened out")
            for c, cheap in zip(shallow, screen(shallow), strict=True)
        ]
        table |= {(c.position, c.layer): c for c in screened}
        shallow = sorted(screened, key=lambda c: _promise(c, thresholds))[:finalists]
    for c, effects in zip(shallow, score(shallow), strict=True):
        measured = dataclasses.replace(c, **dataclasses.asdict(effects))
        table[c.position, c.layer] = dataclasses.replace(measured, verdict=_verdict(measured, thresholds))
    passed = [c for c in table.values() if c.verdict == "passed"]
    if not passed:
        raise NoDirectionFound(
            f"none of {len(table)} candidate directions passes; nearest: {_nearest(list(table.values()), thresholds)}",
            "loosen selection.kl_limit or selection.induce_share, raise selection.finalists, or give more prompts",
        )
    best = min(passed, key=lambda c: c.bypass if c.bypass is not None else float("inf"))
    chosen = dataclasses.replace(best, verdict="chosen")
    table[best.position, best.layer] = chosen
    return chosen, list(table.values())


def _promise(c: Candidate, thresholds: Thresholds) -> tuple[int, float]:
    """Order of promise after the screening: within the KL threshold by bypass, then the others by KL."""
    screen, kl = c.screen, c.screen_kl
    if screen is None or kl is None or screen != screen or kl != kl:
        return 2, 0.0
    return (0, screen) if kl <= thresholds.kl else (1, kl)


def _verdict(c: Candidate, thresholds: Thresholds) -> str:
    if c.bypass is None or c.induce is None or c.kl is None:
        return "not measured"
    if any(value != value for value in (c.bypass, c.induce, c.kl)):
        return "not a number"
    if c.kl > thresholds.kl:
        return f"KL {c.kl:.3f} > {thresholds.kl:g}"
    if c.induce < thresholds.induce:
        return f"induce {c.induce:.2f} < {thresholds.induce:.3g}"
    return "passed"


def _nearest(table: list[Candidate], thresholds: Thresholds) -> str:
    """The measured candidates that fail by least: by the share of the KL threshold, or the log-odds, they lack."""

    def lack(c: Candidate) -> float:
        kl, induce = c.kl if c.kl is not None else float("inf"), c.induce if c.induce is not None else 0.0
        return max(kl / thresholds.kl - 1, 0.0) + max(thresholds.induce - induce, 0.0)

    measured = sorted((c for c in table if c.bypass is not None and c.bypass == c.bypass), key=lack)
    return "; ".join(
        f"position {c.position} layer {c.layer} (bypass {c.bypass:.2f}, {c.verdict})" for c in measured[:3]
    )
