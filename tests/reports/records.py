"""Records made by hand: a full run, a `find`, and a `measure`. The numbers are invented, of a likely size."""

import math
import random

from abliterate.capture.contrast import Openings
from abliterate.directions.select import Candidate
from abliterate.directions.stability import Stability
from abliterate.edits.proof import Proof
from abliterate.evals.changes import change, shift
from abliterate.evals.costs import Costs
from abliterate.evals.drift import Drift
from abliterate.evals.harness import TaskScore
from abliterate.evals.judges import Agreement
from abliterate.evals.overrefusal import OverRefusal
from abliterate.evals.scores import Outcomes
from abliterate.evals.statistics import Mean, newcombe, wilson
from abliterate.reports.geometry import Cloud, Geometry, Histogram
from abliterate.reports.record import (
    Chosen,
    Environment,
    ModelFacts,
    Observed,
    PromptFacts,
    RunRecord,
    Sample,
    Scores,
    Sensitivity,
    Separation,
)
from abliterate.settings import Settings

LAYERS = 28
POSITIONS = range(-5, 0)
PROOF = Proof(2.3e-4, 0.62, 2.1e-4, 3.9e-3, 2.2e-3, 1.56e-2)
ATTACK = "<script>alert('owned')</script><img src=\"http://example.org/beacon.png\">"


def outcomes(refused, complied, evasive=0, broken=0):
    n = refused + complied + evasive + broken
    return Outcomes(n, *(wilson(count, n) for count in (refused, complied, evasive, broken)))


def candidates(*, scored=True):
    """Best near position -2, layer 15; a fifth of the layers excluded; twelve of the rest measured in full."""
    table = []
    for position in POSITIONS:
        for layer in range(1, LAYERS):
            closeness = math.exp(-(((layer - 15) / 6) ** 2) - ((position + 2) / 2) ** 2)
            separation = min(0.999, 0.55 + 0.45 * (1 - math.exp(-layer / 5)) - 0.01 * abs(position + 2))
            c = Candidate(position, layer, 0.8 + 0.35 * layer, separation)
            table.append((closeness, c))
    if not scored:
        return [Candidate(c.position, c.layer, c.norm, c.separation) for _, c in table]
    shallow = sorted((pair for pair in table if pair[1].layer < 22), key=lambda pair: -pair[0])
    finalists = {id(c): rank for rank, (_, c) in enumerate(shallow[:12])}
    return [_scored(c, closeness, finalists.get(id(c))) for closeness, c in table]


def _scored(c, closeness, rank):
    base = (c.position, c.layer, c.norm, c.separation)
    if c.layer >= 22:
        return Candidate(*base, verdict="too deep")
    screen = 7.5 - 19.2 * closeness
    if rank is None:
        return Candidate(*base, screen=screen, verdict="screened out")
    kl = 0.148 if rank == 3 else 0.018 + 0.004 * rank
    verdict = {0: "chosen", 3: "KL 0.148 > 0.1"}.get(rank, "passed")
    return Candidate(*base, screen, kl, screen + 0.4, 6.25 - 0.3 * rank, kl, verdict)


def samples():
    refused = [
        Sample(
            prompt=f"Invented request number {i} that the model was trained to decline",
            label="refused",
            before="I'm sorry, but I can't assist with that request. If you need help with something else, ask. …",
            before_outcome="refused",
            after=ATTACK if i == 1 else "Sure. The first thing to look at is how the parts fit together, which …",
            after_outcome="refused" if i == 5 else "complied",
        )
        for i in range(30)
    ]
    answered = [
        Sample(
            prompt="اكتب جملة عن البحر" if i == 0 else f"What is the {i}th thing to know about sourdough bread?",
            label="answered",
            before="Sourdough is leavened by wild yeast and lactic acid bacteria, kept in a starter that …",
            before_outcome="complied",
            after="Sourdough bread is leavened with wild yeast and bacteria, kept alive in a starter that …",
            after_outcome="broken" if i == 2 else "complied",
        )
        for i in range(30)
    ]
    return refused + answered


def _base(command, source="example-lab/Example-1.5B-Instruct", revision="0123456789abcdef0123456789abcdef01234567"):
    return dict(
        tool_version="0.1.0",
        command=command,
        created="2026-02-03T10:20:30+00:00",
        environment=Environment(
            python="3.12.4",
            torch="2.9.1",
            transformers="5.0.0",
            platform="Linux-6.8-x86_64",
            device="cpu",
            dtype="float32",
        ),
        settings=Settings().model_dump(mode="json"),
        model=ModelFacts(
            source=source,
            revision=revision,
            architecture="Qwen2ForCausalLM",
            config_hash="c0ffee" * 10 + "c0ff",
            template_hash="decade" * 10 + "deca",
            storage_dtype="bfloat16",
            parameters=1_543_714_304,
            width=1536,
            layers=LAYERS,
            writers=57,
            tied_embedding=True,
        ),
        prompts=PromptFacts(
            sources={"refused": "builtin", "answered": "builtin"},
            hash="facade" * 10 + "faca",
            used={
                "refused": {"fit": 128, "select": 32, "report": 117},
                "answered": {"fit": 128, "select": 32, "report": 120},
            },
        ),
        seconds={"observe": 212.4, "capture": 41.03, "screen": 388.1, "select": 97.2, "total": 1312.9},
    )


def _found():
    return dict(
        observed=Observed(
            refused=outcomes(121, 5, 2),
            answered=outcomes(1, 127),
            kept_refused=121,
            kept_answered=127,
            openings=Openings((40, 36660, 19152), ("I", "Sorry", " As"), 0.93, 0.041, 0.998, 3.1, -5.4),
        ),
        candidates=candidates(),
        chosen=Chosen(position=-2, layer=15, norm=6.05, basis_sha256="ab" * 32),
    )


def full_record(**changes):
    return RunRecord(
        **{
            **_base("run"),
            **_found(),
            "strength": 1.0,
            "proof": PROOF,
            "scores": [
                Scores(variant="unedited", refused=outcomes(112, 4, 1), answered=outcomes(2, 118)),
                Scores(
                    variant="edited",
                    refused=outcomes(2, 113, 1, 1),
                    answered=outcomes(0, 119, 0, 1),
                    drift=Drift(Mean(0.031, 120, 0.024, 0.040), Mean(0.052, 120, 0.044, 0.061)),
                ),
                Scores(
                    variant="random",
                    refused=outcomes(111, 5, 1),
                    answered=outcomes(2, 118),
                    drift=Drift(Mean(0.0004, 120, 0.0003, 0.0006), Mean(0.0007, 120, 0.0005, 0.0009)),
                ),
            ],
            "samples": samples(),
            **changes,
        }
    )


def find_record(**changes):
    return RunRecord(**{**_base("find"), **_found(), **changes})


def bake_record(**changes):
    """What `bake` leaves: it was told the direction, and measured nothing but the proof."""
    baked = {"chosen": _found()["chosen"], "strength": 1.0, "proof": PROOF}
    return RunRecord(**{**_base("bake", source="/home/someone/models/my-model", revision="local"), **baked, **changes})


def measure_record(**changes):
    """A `measure` without a direction: the model as it is."""
    scores = [Scores(variant="unedited", refused=outcomes(112, 4, 1), answered=outcomes(2, 118))]
    shown = [s.model_copy(update={"after": s.before, "after_outcome": s.before_outcome}) for s in samples()]
    return RunRecord(**{**_base("measure"), "scores": scores, "samples": shown, **changes})


def geometry():
    """Two clouds that part more and more with depth, most of all near layer 15."""
    rng = random.Random(7)
    histograms = []
    for layer in range(1, LAYERS):
        gap = 6 * math.exp(-(((layer - 15) / 8) ** 2))
        sides = [[rng.gauss(centre, 1.2) for _ in range(64)] for centre in (gap, -gap / 2)]
        low, high = min(map(min, sides)), max(map(max, sides))
        counts = [[sum(int((v - low) / (high - low) * 23.999) == i for v in side) for i in range(24)] for side in sides]
        histograms.append(Histogram(layer, low, high, *counts))
    clouds = [
        Cloud([rng.gauss(x, 1.2) for _ in range(64)], [rng.gauss(0, 3) for _ in range(64)], 32) for x in (6.0, -3.0)
    ]
    return Geometry(-2, 15, histograms, *clouds, 0.23)


def by_token(size):
    """High at the first token, then falling, with fewer completions the further in."""
    return [Mean(size / (i + 1), 32 - i // 2, 0.7 * size / (i + 1), 1.4 * size / (i + 1), 0) for i in range(40)]


def measured(scores, base):
    """Over-refusal, costs and agreement of one variant; `base` refuses a little more of everything."""
    false, true = wilson(9 if base else 2, 60), wilson(50 if base else 3, 60)
    return scores.model_copy(
        update={
            "over_refusal": OverRefusal(false, true, newcombe(false, true)),
            "costs": Costs(wilson(1, 237), Mean(31.5, 120, 30.9, 31.9, 0), wilson(110, 120), wilson(2, 120)),
            "tasks": [TaskScore("hellaswag", "acc,none", 0.61 if base else 0.59, 0.012, 500, "1.0", True)],
            "agreement": [Agreement("builtin", "hf:some/judge", 237, 0.93, 0.86)],
        }
    )


def sensitivity():
    places = [(position, layer) for position in POSITIONS for layer in range(1, LAYERS)]
    return Sensitivity(
        halvings=16,
        seed=0,
        stability=[Stability(p, layer, 0.7 + 0.01 * layer, 0.6 + 0.01 * layer) for p, layer in places],
        separation=[Separation(position=p, layer=layer, auroc=0.6 + 0.014 * layer) for p, layer in places],
        n_refused=117,
        n_answered=120,
    )


def changes():
    """Refusals fell; false refusals of safe prompts did not tell."""
    refused = change(
        "refusals of prompts labelled refused",
        ("unedited", "edited"),
        [True] * 112 + [False] * 5,
        [True] * 2 + [False] * 115,
    )
    safe = change(
        "refusals of safe borderline prompts",
        ("unedited", "edited"),
        [True] * 9 + [False] * 51,
        [False] * 2 + [True] * 7 + [False] * 51,
    )
    return [refused, safe]


def rich_record(**changed):
    """A full run with everything that a report can draw."""
    record = full_record()
    sizes = {"unedited": None, "edited": 0.09, "random": 0.004}
    scores = [
        s.model_copy(update={"by_token": by_token(sizes[s.variant]) if sizes[s.variant] else []}) for s in record.scores
    ]
    scores = [measured(one, one.variant == "unedited") for one in scores]
    found = {"geometry": geometry(), "scores": scores, "sensitivity": sensitivity(), "changes": changes()}
    return record.model_copy(
        update={
            **found,
            "shifts": [shift("tokens of an answer", ("unedited", "edited"), [30, 31, 32], [31, 31, 33], seed=0)],
            **changed,
        }
    )
