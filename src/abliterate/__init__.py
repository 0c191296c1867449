"""Find, measure and edit the directions by which open-weight language models hold a behaviour.

The public names, and nothing else. They are imported when first used, so that the command line can answer `--help`
without loading torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from abliterate.anatomy.dissect import Anatomy, Form, dissect
    from abliterate.anatomy.load import Subject, load
    from abliterate.anatomy.study import Study, study
    from abliterate.anatomy.writers import Writer
    from abliterate.capture.chat import Chat
    from abliterate.capture.collect import collect
    from abliterate.capture.forward import Completion, complete
    from abliterate.capture.moments import Moments
    from abliterate.capture.prompts import Label, PromptSet, Split, load_prompts
    from abliterate.directions.direction import Direction
    from abliterate.directions.estimators import difference_of_means, random_vector
    from abliterate.edits.bake import bake
    from abliterate.edits.edit import Ablate, Add
    from abliterate.edits.hooks import edited
    from abliterate.edits.proof import prove
    from abliterate.errors import AbliterateError, UserError, VerificationFailed
    from abliterate.evals.drift import drift
    from abliterate.evals.outcome import Outcome, judge
    from abliterate.evals.statistics import wilson
    from abliterate.reports.record import RunRecord
    from abliterate.runs.context import Context
    from abliterate.runs.find import find, observe
    from abliterate.runs.measure import measure
    from abliterate.runs.results import bake_into, find_into, measure_into, run_into
    from abliterate.settings import Settings, resolve

__version__ = "0.1.0"

_HOMES = {
    "anatomy.load": ("Subject", "load"),
    "anatomy.dissect": ("Anatomy", "Form", "dissect"),
    "anatomy.study": ("Study", "study"),
    "anatomy.writers": ("Writer",),
    "capture.chat": ("Chat",),
    "capture.collect": ("collect",),
    "capture.forward": ("Completion", "complete"),
    "capture.moments": ("Moments",),
    "capture.prompts": ("Label", "PromptSet", "Split", "load_prompts"),
    "directions.direction": ("Direction",),
    "directions.estimators": ("difference_of_means", "random_vector"),
    "edits.bake": ("bake",),
    "edits.edit": ("Ablate", "Add"),
    "edits.hooks": ("edited",),
    "edits.proof": ("prove",),
    "errors": ("AbliterateError", "UserError", "VerificationFailed"),
    "evals.drift": ("drift",),
    "evals.outcome": ("Outcome", "judge"),
    "evals.statistics": ("wilson",),
    "reports.record": ("RunRecord",),
    "runs.context": ("Context",),
    "runs.find": ("find", "observe"),
    "runs.measure": ("measure",),
    "runs.results": ("bake_into", "find_into", "measure_into", "run_into"),
    "settings": ("Settings", "resolve"),
}

__all__ = [
    "Ablate",
    "AbliterateError",
    "Add",
    "Anatomy",
    "Chat",
    "Completion",
    "Context",
    "Direction",
    "Form",
    "Label",
    "Moments",
    "Outcome",
    "PromptSet",
    "RunRecord",
    "Settings",
    "Split",
    "Study",
    "Subject",
    "UserError",
    "VerificationFailed",
    "Writer",
    "bake",
    "bake_into",
    "collect",
    "complete",
    "difference_of_means",
    "dissect",
    "drift",
    "edited",
    "find",
    "find_into",
    "judge",
    "load",
    "load_prompts",
    "measure",
    "measure_into",
    "observe",
    "prove",
    "random_vector",
    "resolve",
    "run_into",
    "study",
    "wilson",
]


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"abliterate.{home}"), name)
    raise AttributeError(f"module 'abliterate' has no attribute {name!r}")
