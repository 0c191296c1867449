"""The proof of a baked checkpoint: reload it from disk and compare it with the hooked original.

Two claims are checked on real prompts. Along the direction, the stream of the reloaded model has the component that
the hooked original has (none at strength 1) at every block's input, middle and output. And their logits agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel

from abliterate.anatomy.classes import plain_model
from abliterate.anatomy.dissect import Anatomy
from abliterate.anatomy.load import Subject
from abliterate.anatomy.view import View, look
from abliterate.capture.batching import Batch
from abliterate.capture.forward import batch_of, model_inputs
from abliterate.edits.edit import Ablate
from abliterate.edits.hooks import edited
from abliterate.edits.requantise import RequantError
from abliterate.errors import VerificationFailed


@dataclass(frozen=True)
class Proof:
    """What was measured, and what was allowed.

    Attributes:
        component: largest |Q x| / |x| left by the edit, over blocks, places and tokens; of the reloaded model.
        component_unedited: the same of the unedited model, so that zero means something.
        stream_difference: largest difference between reloaded and hooked components, relative to |x|.
        stream_tolerance: what rounding the edited weights to the storage dtype can explain.
        logit_difference: |reloaded - hooked| / |hooked| over the logits of the last position.
        logit_tolerance: likewise.
        weight_error: |W'' - W'| / |W'| of edited weights W' that are stored in FP8 or MXFP4 as W''; 0 where none are.
    """

    component: float
    component_unedited: float
    stream_difference: float
    stream_tolerance: float
    logit_difference: float
    logit_tolerance: float
    weight_error: float = 0.0


def tolerances(storage: torch.dtype, compute: torch.dtype) -> tuple[float, float]:
    """Allowed relative differences of (stream component, logits) after one rounding of the writers.

    A folded weight is rounded once, with relative error up to u = eps / 2 of the coarser dtype, independently in every
    entry. Along one direction the errors of d rows average out, so the component of a write stays well below u times
    its norm (measured on two bf16 models: 0.13 u). Logits collect the errors of all directions through L blocks, and
    norms may amplify them (measured: 0.5 u); 4 u allows for deeper models.
    """
    u = max(torch.finfo(storage).eps, torch.finfo(compute).eps) / 2
    return max(u, 1e-5), max(4 * u, 1e-4)


def prove(
    subject: Subject,
    edit: Ablate,
    directory: Path,
    sequences: Sequence[Sequence[int]],
    requantised: RequantError | None = None,
) -> Proof:
    """Reload a baked checkpoint with plain transformers and check it against the hooked original.

    Args:
        subject: the unedited model.
        edit: what was baked.
        directory: where.
        sequences: token ids of a few prompts, measured at every token.
        requantised: what storing quantised weights cost, which is allowed for.

    Raises:
        VerificationFailed: the checkpoint does not load, or differs by more than rounding.
    """
    batch = batch_of(subject, sequences)
    unedited = _look(subject.model, subject.anatomy, edit, batch)
    with edited(subject, edit):
        hooked = _look(subject.model, subject.anatomy, edit, batch)
    try:
        model = plain_model(subject.model.config, directory, subject.model.dtype)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise VerificationFailed(f"the edited checkpoint does not load: {error}") from error
    model = nn.Module.to(model, subject.model.device)
    reloaded = _look(model, subject.anatomy, edit, batch)
    stream_tolerance, logit_tolerance = tolerances(subject.storage_dtype, subject.model.dtype)
    if requantised is not None:
        # Errors of the weights reach the logits amplified by norms and blocks (measured: 2 to 4 times on small models).
        logit_tolerance = max(logit_tolerance, 5 * requantised.relative)
        apart_along = abs(requantised.component_left - requantised.component_wanted)
        stream_tolerance = max(stream_tolerance, 4 * apart_along * unedited.largest, 1e-3 * unedited.largest)
    proof = Proof(
        component=reloaded.largest,
        component_unedited=unedited.largest,
        stream_difference=float((reloaded.components - hooked.components).norm(dim=-1).max()),
        stream_tolerance=stream_tolerance,
        logit_difference=float((reloaded.logits - hooked.logits).norm() / hooked.logits.norm()),
        logit_tolerance=logit_tolerance,
        weight_error=requantised.relative if requantised is not None else 0.0,
    )
    _judge(proof)
    return proof


def _judge(proof: Proof) -> None:
    # `not <=` also catches NaN.
    if not proof.stream_difference <= proof.stream_tolerance:
        raise VerificationFailed(
            f"the reloaded model's stream differs from the hooked original's along the direction by"
            f" {proof.stream_difference:.2e} (allowed {proof.stream_tolerance:.2e}); nothing was kept"
        )
    if not proof.logit_difference <= proof.logit_tolerance:
        raise VerificationFailed(
            f"the reloaded model's logits differ from the hooked original's by {proof.logit_difference:.2e}"
            f" (allowed {proof.logit_tolerance:.2e}); nothing was kept"
        )


def _look(model: PreTrainedModel, anatomy: Anatomy, edit: Ablate, batch: Batch) -> View:
    """The stream along the direction at every real token, and the logits of the last."""
    inputs = model_inputs(model, batch, keep=1)
    return look(model, anatomy.blocks, inputs, edit.direction.basis, copies=anatomy.copies, mask=batch.mask.bool())
