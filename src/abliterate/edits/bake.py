"""Writing an edit into a checkpoint: the writers' tensors are folded, everything else is copied as it is.

Works file by file on the checkpoint itself, not on the loaded model, so that names, dtypes, file layout and tensors
the model class does not load all stay as they were.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from abliterate.anatomy.load import FETCHED, INDEX, Subject, checkpoint_bytes, read_config, weight_files
from abliterate.edits.edit import Ablate
from abliterate.edits.hooks import check_fits
from abliterate.errors import UnsupportedModel
from abliterate.files import digest


@dataclass(frozen=True)
class Baked:
    """What was written.

    Attributes:
        edited: on-disk names of the folded tensors.
        untied: on-disk name of the unembedding that was added because it was tied to an edited embedding, or None.
    """

    edited: tuple[str, ...]
    untied: str | None


def baked_bytes(subject: Subject) -> int:
    """Room that `bake` needs: the checkpoint, the untied unembedding, and 1 % for the small files."""
    size = checkpoint_bytes(subject.directory)
    if (writer := subject.anatomy.tied_head) is not None:
        size += subject.model.get_parameter(writer.weight).numel() * subject.storage_dtype.itemsize
    return int(size * 1.01) + 10_000_000


def bake(subject: Subject, edit: Ablate, out: Path) -> Baked:
    """Write an edited copy of the subject's checkpoint into the existing, empty directory `out`.

    A tied unembedding is untied and keeps its original values, since only what is written to the stream is edited;
    that adds one tensor and sets `tie_word_embeddings` to false.

    Raises:
        DirectionMismatch: the direction was made for another model.
        UnsupportedModel: a writer's tensor is not in the checkpoint under the name the model gives it.
    """
    check_fits(subject, edit)
    folds, untied = _plan(subject)
    mark = describe(subject, edit)
    for path in weight_files(subject.directory):
        with safe_open(path, "pt") as file:
            metadata = {
                **(file.metadata() or {"format": "pt"}),
                "abliterate": json.dumps(mark, sort_keys=True),
            }
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        _fold(tensors, folds, edit, untied)
        save_file(tensors, out / path.name, metadata)
        shutil.copymode(path, out / path.name)
    _copy_small_files(subject, out)
    tied = subject.anatomy.tied_head
    _write_config(subject, out, mark, untied=tied is not None)
    _extend_index(out, untied, added=subject.model.get_parameter(tied.weight).numel() if tied else 0)
    return Baked(tuple(sorted(folds)), untied[1] if untied else None)


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


def _plan(subject: Subject) -> tuple[dict[str, int], tuple[str, str] | None]:
    """On-disk names of the tensors to fold with their axis, and (embedding, unembedding) when they must be untied."""
    on_disk = stored_names(subject.directory)
    folds: dict[str, int] = {}
    for writer in subject.anatomy.writers:
        folds[_name_on_disk(subject, writer.weight, on_disk)] = writer.out_axis
        if writer.bias is not None:
            folds[_name_on_disk(subject, writer.bias, on_disk)] = 0
    tied = subject.anatomy.tied_head
    if tied is None or tied.tied_to is None or tied.tied_to in on_disk:
        return folds, None
    return folds, (_name_on_disk(subject, tied.weight, on_disk), tied.tied_to)


def stored_names(directory: Path) -> dict[str, str]:
    """Every tensor of a checkpoint and the file it lies in."""
    names: dict[str, str] = {}
    for path in weight_files(directory):
        with safe_open(path, "pt") as file:
            names.update(dict.fromkeys(file.keys(), path.name))
    return names


def _name_on_disk(subject: Subject, name: str, on_disk: Mapping[str, str]) -> str:
    """Checkpoints of the bare decoder leave out the prefix that the causal model adds to its names."""
    prefix = f"{subject.model.base_model_prefix}."
    for candidate in (name, name.removeprefix(prefix), prefix + name):
        if candidate in on_disk:
            return candidate
    raise UnsupportedModel(
        f"the checkpoint has no tensor {name}",
        "its tensors are stored under other names, which is not supported yet",
    )


def _fold(tensors: dict[str, Tensor], folds: Mapping[str, int], edit: Ablate, untied: tuple[str, str] | None) -> None:
    if untied is not None and untied[0] in tensors:
        tensors[untied[1]] = tensors[untied[0]]  # the original values: fold() returns a new tensor or the same one
    for name in tensors.keys() & folds.keys():
        tensors[name] = edit.fold(tensors[name], folds[name])
    if untied is not None and untied[0] in tensors and tensors[untied[0]] is tensors[untied[1]]:
        tensors[untied[1]] = tensors[untied[1]].clone()  # strength 0: safetensors refuses shared memory


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
        text = config.get("text_config")
        if isinstance(text, dict) and "tie_word_embeddings" in text:
            text["tie_word_embeddings"] = False
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _extend_index(out: Path, untied: tuple[str, str] | None, added: int) -> None:
    path = out / INDEX
    if untied is None or not path.exists():
        return
    index = json.loads(path.read_text(encoding="utf-8"))
    index["weight_map"][untied[1]] = index["weight_map"][untied[0]]
    metadata = index.setdefault("metadata", {})
    metadata["total_size"] = sum(_tensor_bytes(file) for file in sorted(out.glob("*.safetensors")))
    if "total_parameters" in metadata:
        metadata["total_parameters"] += added
    path.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _tensor_bytes(path: Path) -> int:
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    return path.stat().st_size - 8 - header
