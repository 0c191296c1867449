"""Writing an edit into a checkpoint: the writers' tensors are folded, everything else is copied as it is.

Works file by file on the checkpoint itself, not on the loaded model, so that names, dtypes, file layout and tensors
the model class does not load all stay as they were.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Self

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from abliterate.anatomy.checkpoint import INDEX, Stored, checkpoint_bytes, stored_tensors, weight_files
from abliterate.anatomy.dissect import Form, basis_at
from abliterate.anatomy.layout import StoredWriter
from abliterate.anatomy.load import FETCHED, Subject, read_config
from abliterate.edits.edit import Ablate
from abliterate.edits.hooks import check_fits
from abliterate.edits.quantised import recognise
from abliterate.edits.requantise import Packed, RequantError
from abliterate.errors import UnsupportedModel
from abliterate.files import digest


@dataclass(frozen=True)
class Baked:
    """What was written.

    Attributes:
        edited: on-disk names of the folded tensors.
        untied: on-disk names of the tensors that were added because they were tied to another.
        requantised: what storing edited FP8 or MXFP4 weights as they were stored cost; None where there are none.
    """

    edited: tuple[str, ...]
    untied: tuple[str, ...]
    requantised: RequantError | None = None


@dataclass(frozen=True)
class Plan:
    """What a bake does to a checkpoint.

    Attributes:
        folds: the weights to fold, by the names that they have on disk or would have unquantised.
        packed: those of them that are stored in a small format, with the tensors that hold them.
        copies: for each tensor to add, the tensor on disk that it was tied to.
        originals: those of `copies` that keep the original values: unembeddings, which write nothing.
        unties: whether the model's ties are given up.
    """

    folds: Mapping[str, StoredWriter]
    packed: Mapping[str, Packed]
    copies: Mapping[str, str]
    originals: frozenset[str]
    unties: bool

    @classmethod
    def of(cls, subject: Subject, stored: Mapping[str, Stored]) -> Self:
        """Find the writers among a checkpoint's tensors, and what must be untied.

        Untying an unembedding from an edited embedding (`tie_word_embeddings = false`) drops every other tie of the
        model too, so all that was tied and left out of the checkpoint is added to it.

        Raises:
            UnsupportedModel: the weights cannot carry an edit, a writer is stored in a format that cannot be
                edited, or it is not in the checkpoint.
        """
        anatomy, layout = subject.anatomy, subject.study.layout
        if anatomy.form is not Form.WEIGHTS:
            raise UnsupportedModel(
                f"the weights of {subject.name} cannot carry the edit: {anatomy.reason}",
                "use the edit as hooks: `abliterate measure`, or `abliterate.edited` in Python",
            )
        scheme = recognise(read_config(subject.directory), stored)
        shapes = scheme.weights()
        kinds = {part.name: scheme.editable(part.name) for part in layout.parts(shapes)}
        folds = {part.name: part for part in layout.find(shapes)}
        packed = {name: kind for name, kind in kinds.items() if isinstance(kind, Packed)}
        if not layout.tied_head:
            return cls(folds, packed, {}, frozenset(), unties=False)
        there = {layout.memory_name(name): name for name in stored}
        copies, originals = {}, set()
        for group in layout.ties():
            source = next((there[name] for name in group.names if name in there), None)
            for name in group.names:
                if name not in there and source is not None:
                    added = layout.disk_name(name)
                    copies[added] = source
                    originals |= {added} if name == group.head else set()
        return cls(folds, packed, copies, frozenset(originals), unties=True)


def baked_bytes(subject: Subject) -> int:
    """Room that `bake` needs: the checkpoint, what is untied, and 1 % for the small files."""
    stored = stored_tensors(subject.directory)
    added = sum(prod(stored[source].shape) for source in Plan.of(subject, stored).copies.values())
    size = checkpoint_bytes(subject.directory) + added * subject.storage_dtype.itemsize
    return int(size * 1.01) + 10_000_000


def bake(subject: Subject, edit: Ablate, out: Path) -> Baked:
    """Write an edited copy of the subject's checkpoint into the existing, empty directory `out`.

    A tied unembedding is untied and keeps its original values, since only what is written to the stream is edited;
    that adds a tensor and sets `tie_word_embeddings` to false.

    Raises:
        DirectionMismatch: the direction was made for another model.
        UnsupportedModel: the weights cannot carry the edit, or a writer is not in the checkpoint.
    """
    check_fits(subject, edit)
    stored = stored_tensors(subject.directory)
    plan = Plan.of(subject, stored)
    mark = describe(subject, edit)
    repacked, error = _repacked(subject, edit, plan, stored)
    for path in weight_files(subject.directory):
        with safe_open(path, "pt") as file:
            metadata = {
                **(file.metadata() or {"format": "pt"}),
                "abliterate": json.dumps(mark, sort_keys=True),
            }
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        after = _edited(subject, edit, plan, tensors)
        after |= {name: tensor for name, tensor in repacked.items() if name in tensors}
        save_file(after, out / path.name, metadata)
        shutil.copymode(path, out / path.name)
    _copy_small_files(subject, out)
    _write_config(subject, out, mark, untied=plan.unties)
    _extend_index(subject, out, plan)
    return Baked(tuple(sorted(plan.folds)), tuple(sorted(plan.copies)), error)


def describe(subject: Subject, edit: Ablate) -> dict[str, object]:
    """What an edited checkpoint says of itself, in its config.json and tensor files."""
    direction = edit.direction
    return {
        "edit": "directional ablation",
        "strength": edit.strength,
        "rank": direction.rank,
        "base_model": subject.source if subject.revision != "local" else subject.name,
        "base_revision": subject.revision,
        "position": direction.position,
        "layer": direction.layer,
        "direction_sha256": digest(direction.basis.tolist()),
        "estimator": direction.provenance.estimator,
    }


def _edited(subject: Subject, edit: Ablate, plan: Plan, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One file's tensors after the edit, with those that are untied from one of them."""
    basis = basis_at(subject.model, edit.direction.basis)
    after = dict(tensors)
    for name in (tensors.keys() & plan.folds.keys()) - plan.packed.keys():
        part = plan.folds[name]
        after[name] = edit.fold(tensors[name], part.out_axis, basis(part.writer.gains))
    for name, source in plan.copies.items():
        if source in tensors:
            value = tensors[source] if name in plan.originals else after[source]
            after[name] = value.clone()  # safetensors refuses shared memory
    return after


def _repacked(
    subject: Subject, edit: Ablate, plan: Plan, stored: Mapping[str, Stored]
) -> tuple[dict[str, Tensor], RequantError | None]:
    """Every tensor of the writers in a small format after the edit, and what storing them so cost.

    All at once, since a weight and its scales may lie in different files.
    """
    basis = basis_at(subject.model, edit.direction.basis)
    after: dict[str, Tensor] = {}
    total = None
    for name, packed in plan.packed.items():
        part = plan.folds[name]
        directions = basis(part.writer.gains)
        tensors = {held: _read(subject.directory / stored[held].file, held) for held in packed.parts}
        parts, error = packed.refold(tensors, partial(_folded, edit, directions), part.out_axis, directions)
        after |= parts
        total = error if total is None else total + error
    return after, total


def _folded(edit: Ablate, directions: Tensor, vectors: Tensor) -> Tensor:
    return edit.fold(vectors, 1, directions)


def _read(path: Path, name: str) -> Tensor:
    with safe_open(path, "pt") as file:
        tensor: Tensor = file.get_tensor(name)
    return tensor


def _copy_small_files(subject: Subject, out: Path) -> None:
    patterns = [pattern for pattern in (*FETCHED, "*.py") if pattern != "*.safetensors"]
    for path in sorted({path for pattern in patterns for path in subject.directory.glob(pattern)}):
        if path.is_file():
            shutil.copyfile(path, out / path.name)
    if subject.chat_template is not None:
        subject.tokenizer.save_pretrained(out)


def _write_config(subject: Subject, out: Path, mark: Mapping[str, object], *, untied: bool) -> None:
    config = read_config(subject.directory)
    config["abliterate"] = dict(mark)
    if untied:
        config["tie_word_embeddings"] = False
        for key in subject.model.config.sub_configs:
            nested = config.get(key)
            if isinstance(nested, dict) and getattr(getattr(subject.model.config, key), "tie_word_embeddings", False):
                nested["tie_word_embeddings"] = False
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _extend_index(subject: Subject, out: Path, plan: Plan) -> None:
    path = out / INDEX
    if not plan.copies or not path.exists():
        return
    index = json.loads(path.read_text(encoding="utf-8"))
    stored = stored_tensors(subject.directory)
    for name, source in plan.copies.items():
        index["weight_map"][name] = index["weight_map"][source]
    metadata = index.setdefault("metadata", {})
    metadata["total_size"] = sum(_tensor_bytes(file) for file in sorted(out.glob("*.safetensors")))
    if "total_parameters" in metadata:
        metadata["total_parameters"] += sum(prod(stored[source].shape) for source in plan.copies.values())
    path.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _tensor_bytes(path: Path) -> int:
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    return path.stat().st_size - 8 - header
