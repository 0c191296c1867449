"""The proof of a baked checkpoint: reload it from disk and compare it with the hooked original.

Two claims are checked on real prompts. Along the direction, the stream of the reloaded model has the component that
the hooked original has (none at strength 1) at every block's input, middle and output. And their logits agree.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from abliterate.anatomy.blocks import first_tensor, stream_of
from abliterate.anatomy.load import Subject
from abliterate.anatomy.writers import Anatomy
from abliterate.capture.batching import Batch
from abliterate.capture.forward import batch_of, last_logits
from abliterate.edits.edit import Ablate
from abliterate.edits.hooks import edited
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
    """

    component: float
    component_unedited: float
    stream_difference: float
    stream_tolerance: float
    logit_difference: float
    logit_tolerance: float


def tolerances(storage: torch.dtype, compute: torch.dtype) -> tuple[float, float]:
    """Allowed relative differences of (stream component, logits) after one rounding of the writers.

    A folded weight is rounded once, with relative error up to u = eps / 2 of the coarser dtype, independently in every
    entry. Along one direction the errors of d rows average out, so the component of a write stays well below u times
    its norm (measured on two bf16 models: 0.13 u). Logits collect the errors of all directions through L blocks, and
    norms may amplify them (measured: 0.5 u); 4 u allows for deeper models.
    """
    u = max(torch.finfo(storage).eps, torch.finfo(compute).eps) / 2
    return max(u, 1e-5), max(4 * u, 1e-4)


def prove(subject: Subject, edit: Ablate, directory: Path, sequences: Sequence[Sequence[int]]) -> Proof:
    """Reload a baked checkpoint with plain transformers and check it against the hooked original.

    Args:
        subject: the unedited model.
        edit: what was baked.
        directory: where.
        sequences: token ids of a few prompts, measured at every token.

    Raises:
        VerificationFailed: the checkpoint does not load, or differs by more than rounding.
    """
    batch = batch_of(subject, sequences)
    unedited, _ = _measure(subject.model, subject.anatomy, edit, batch)
    with edited(subject, edit):
        hooked, hooked_logits = _measure(subject.model, subject.anatomy, edit, batch)
    try:
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=subject.model.dtype, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise VerificationFailed(f"the edited checkpoint does not load: {error}") from error
    model = nn.Module.to(model, subject.model.device).eval()
    reloaded, logits = _measure(model, subject.anatomy, edit, batch)
    stream_tolerance, logit_tolerance = tolerances(subject.storage_dtype, subject.model.dtype)
    proof = Proof(
        component=float(reloaded.norm(dim=-1).max()),
        component_unedited=float(unedited.norm(dim=-1).max()),
        stream_difference=float((reloaded - hooked).norm(dim=-1).max()),
        stream_tolerance=stream_tolerance,
        logit_difference=float((logits - hooked_logits).norm() / hooked_logits.norm()),
        logit_tolerance=logit_tolerance,
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


def _measure(model: PreTrainedModel, anatomy: Anatomy, edit: Ablate, batch: Batch) -> tuple[Tensor, Tensor]:
    """Components Q x / |x| [places, tokens, k] at every block's input, middles and output, and the last logits."""
    basis = edit.direction.basis.to(model.device, torch.float32)
    places: list[Tensor] = []
    with ExitStack() as stack:
        for handle in _watch(model, anatomy, basis, batch.mask.bool(), places):
            stack.callback(handle.remove)
        with torch.inference_mode():
            logits = last_logits(model, batch)
    return torch.stack(places), logits[:, 0].double().cpu()


def _watch(model: PreTrainedModel, anatomy: Anatomy, basis: Tensor, real: Tensor, places: list[Tensor]) -> list[Any]:
    """Hooks that follow the stream through each block: its input, the sum after each write, its output."""
    running: list[Tensor] = []

    def record(x: Tensor) -> None:
        x = x.float()[real]
        places.append((x @ basis.T / x.norm(dim=-1, keepdim=True)).cpu())

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        running[:] = [stream_of(args, kwargs).float()]
        record(running[0])

    def write(gain: float) -> Any:  # noqa: ANN401 - torch's hook signature is untyped
        def hook(module: nn.Module, args: object, output: object) -> None:
            y = first_tensor(output)
            if y is not None and running:
                running[0] = running[0] + gain * y.float()
                record(running[0])

        return hook

    def leave(module: nn.Module, args: object, output: object) -> None:
        y = first_tensor(output)
        if y is not None:
            record(y)

    handles: list[Any] = []
    for name in anatomy.blocks:
        block = model.get_submodule(name)
        handles += [
            block.register_forward_pre_hook(enter, with_kwargs=True),
            block.register_forward_hook(leave),
        ]
    for writer in anatomy.writers:
        if writer.layer is not None:
            handles.append(model.get_submodule(writer.module).register_forward_hook(write(writer.gain)))
    return handles
