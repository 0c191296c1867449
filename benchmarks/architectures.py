"""Claim: what `abliterate` says of an architecture is true, for every causal and image-text type of transformers.

For each type a tiny random checkpoint is made, studied from its config.json alone (on another random twin), edited
along a random direction by hooks, in memory and on disk, reloaded with plain transformers, and compared. A type is
`wrong` when the tool said that an edit was exact and the stream keeps a component or the logits disagree. What is done
is kept, and the same command goes on from there.
"""

import argparse
import copy
import json
import logging
import shutil
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.core_model_loading import revert_weight_conversion
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

import abliterate
from abliterate.anatomy.blocks import Inputs, forward
from abliterate.anatomy.classes import model_class, plain_model
from abliterate.anatomy.dissect import Anatomy, Form, basis_at
from abliterate.anatomy.load import Subject
from abliterate.anatomy.shrink import walk
from abliterate.anatomy.sites import folded, removing, swapped
from abliterate.anatomy.study import study
from abliterate.anatomy.twin import build_twin, twin_inputs
from abliterate.anatomy.view import look, read_without
from abliterate.anatomy.writers import aliases
from abliterate.directions.direction import Direction, Provenance
from abliterate.edits.bake import bake
from abliterate.edits.edit import Ablate
from abliterate.errors import UnsupportedModel
from abliterate.files import digest
from benchmarks.common import report
from benchmarks.configs import Late, deadline, default_config

SECONDS = 120  # for one type
LAYERS = 4
# Float32, relative: the component that is left of the stream, and the difference of logits.
STREAM, LOGITS = 1e-6, 1e-5
STRENGTHS = (1.0, 0.6)


@dataclass
class Row:
    """What was found for one type.

    Attributes:
        kind: the model type.
        outcome: `exact`, `memory` (exact in memory, not on disk), `hooks`, `refused`, `wrong`, or `not run`.
        writers: parameters that write.
        behind_norms: how many of them write through a norm.
        renamed: whether the checkpoint spells a writer otherwise than the model.
        stream: the largest component that an edit of full strength leaves, relative to the stream.
        memory: difference of logits between folded weights and hooks, the larger of two strengths.
        disk: the same for the reloaded checkpoint.
        reads: difference of logits from the model that removes the direction where the stream is read; None where a
            norm follows a writer, whose statistics the two ways treat differently.
        reason: of a refusal, of hooks only, or of a failure.
        seconds: for all of it.
    """

    kind: str
    outcome: str = "not run"
    writers: int = 0
    behind_norms: int = 0
    renamed: bool = False
    stream: float | None = None
    memory: float | None = None
    disk: float | None = None
    reads: float | None = None
    reason: str = ""
    seconds: float = 0.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*", help="default: every causal type; `image-text`: every image-text type")
    parser.add_argument("--keep", type=Path, default=Path("build/architectures.jsonl"), help="what is done so far")
    parser.add_argument("--table", type=Path, help="write the table as Markdown")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity(logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    sets = {
        "causal": list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
        "image-text": list(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES),
    }
    kinds = [kind for name in given.types or ["causal"] for kind in sets.get(name, [name])]
    rows = {kind: row for kind, row in _kept(given.keep).items() if kind in kinds}
    for kind in kinds:
        if kind not in rows:
            rows[kind] = study_type(kind)
            _keep(given.keep, rows[kind])
            print(_line(rows[kind]), flush=True)
    ordered = [rows[kind] for kind in kinds]
    if given.table:
        given.table.write_text(_markdown(ordered), encoding="utf-8")
    report(summary(ordered))


def summary(rows: Sequence[Row]) -> dict[str, object]:
    """The counts that the claim is about."""
    counts = Counter(row.outcome for row in rows)
    return {
        "benchmark": "architectures",
        "transformers": transformers.__version__,
        "types": len(rows),
        "ran": len(rows) - counts["not run"],
        "exact_memory": counts["exact"] + counts["memory"],
        "exact_disk": counts["exact"],
        "hooks_only": counts["hooks"],
        "refused": counts["refused"],
        "wrong": counts["wrong"],
        "seconds": round(sum(row.seconds for row in rows)),
    }


def study_type(kind: str) -> Row:
    """Build, study, edit and compare one type."""
    start = time.perf_counter()
    row = Row(kind)
    folder = Path(tempfile.mkdtemp())
    try:
        with deadline(SECONDS):
            _measure(row, folder)
    except UnsupportedModel as error:
        row.outcome, row.reason = ("refused" if row.outcome == "ran" else "not run"), error.problem
    except (Exception, Late) as error:
        row.outcome = "not run" if row.outcome == "not run" else "wrong"
        row.reason = f"{type(error).__name__}: {error}".splitlines()[0]
    finally:
        shutil.rmtree(folder)
    row.seconds = round(time.perf_counter() - start, 2)
    return row


def _measure(row: Row, folder: Path) -> None:
    checkpoint = build_twin(default_config(row.kind), layers=LAYERS, seed=1)
    inputs = twin_inputs(checkpoint, seed=7)
    row.outcome = "ran"
    seen = study(checkpoint.config)
    anatomy = seen.anatomy
    basis = torch.linalg.qr(torch.randn(anatomy.width, 1, generator=torch.Generator().manual_seed(3)).double()).Q.T
    if anatomy.form is Form.HOOKS:
        _by_hooks(row, checkpoint, anatomy, inputs, basis)
        return
    row.writers = len(anatomy.writers)
    row.behind_norms = sum(bool(writer.gains) for writer in anatomy.writers)
    hooked = _in_memory(row, checkpoint, anatomy, inputs, basis)
    if row.outcome != "wrong":
        _on_disk(row, checkpoint, folder, inputs, basis, hooked)


def _by_hooks(row: Row, model: PreTrainedModel, anatomy: Anatomy, inputs: Inputs, basis: Tensor) -> None:
    row.reason = anatomy.reason
    with removing(model, anatomy.sites, basis_at(model, basis), 1.0):
        hooked = look(model, anatomy.blocks, inputs, basis, copies=anatomy.copies, renewed=anatomy.renewed)
    read = read_without(
        model, anatomy.blocks, inputs, basis, copies=anatomy.copies, renewed=anatomy.renewed, early=False
    )
    row.stream, row.reads = hooked.largest, apart(read, hooked.logits)
    row.outcome = "hooks" if row.stream <= STREAM and row.reads <= LOGITS else "wrong"


def _in_memory(
    row: Row, model: PreTrainedModel, anatomy: Anatomy, inputs: Inputs, basis: Tensor
) -> dict[float, Tensor]:
    at = basis_at(model, basis)
    row.memory = 0.0
    hooked = {}
    for strength in STRENGTHS:
        with removing(model, anatomy.sites, at, strength):
            hooked[strength] = forward(model, inputs)
        with swapped(model, folded(model, anatomy.writers, at, strength)):
            baked = look(model, anatomy.blocks, inputs, basis, copies=anatomy.copies)
        row.memory = max(row.memory, apart(baked.logits, hooked[strength]))
        row.stream = baked.largest if strength == 1.0 else row.stream
    if not anatomy.normed:
        read = read_without(model, anatomy.blocks, inputs, basis, copies=anatomy.copies, early=True)
        row.reads = apart(read, hooked[1.0])
    right = row.memory <= LOGITS and (row.stream or 0) <= STREAM and (row.reads or 0) <= LOGITS
    row.outcome = "memory" if right else "wrong"
    return hooked


def _on_disk(
    row: Row, model: PreTrainedModel, folder: Path, inputs: Inputs, basis: Tensor, hooked: dict[float, Tensor]
) -> None:
    _save(model, folder / "base")
    try:
        again = _reload(folder / "base", model.config)
    except Exception as error:
        row.reason = f"transformers cannot reload it unedited ({type(error).__name__}: {error})".splitlines()[0]
        return
    if (difference := apart(forward(again, inputs), forward(model, inputs))) > LOGITS:
        row.reason = f"transformers reloads it unedited as another model ({difference:.1g} of the logits)"
        return
    nobody = cast(PreTrainedTokenizerBase, None)
    subject = Subject("base", "local", folder / "base", model, nobody, torch.float32, digest(row.kind))
    row.renamed = any(part.name != part.writer.parameter for part in subject.study.layout.as_saved())
    row.disk = 0.0
    made_for = Provenance(
        "base", "local", subject.config_hash, subject.anatomy.width, subject.anatomy.layers, "", "", "random"
    )
    for strength in STRENGTHS:
        out = folder / str(strength)
        out.mkdir()
        bake(subject, Ablate(Direction(basis, 1.0, -1, 0, made_for), strength), out)
        reloaded = _reload(out, model.config)
        row.disk = max(row.disk, apart(forward(reloaded, inputs), hooked[strength]))
    row.outcome = "exact" if row.disk <= LOGITS else "wrong"


def _save(model: PreTrainedModel, folder: Path) -> None:
    """A checkpoint as transformers saves it, also where the type's default configuration is invalid."""
    try:
        model.save_pretrained(folder)
    except StrictDataclassError:
        tensors = revert_weight_conversion(model, dict(model.state_dict()))
        tied = {name for group in aliases(model).values() for name in group[1:]}
        kept = {name: tensor.contiguous() for name, tensor in tensors.items() if name not in tied}
        save_file(kept, folder / "model.safetensors", {"format": "pt"})
        model.config.to_json_file(folder / "config.json", use_diff=False)


def _reload(folder: Path, config: PreTrainedConfig) -> PreTrainedModel:
    """A checkpoint as plain transformers loads it.

    Some shrunken configurations are others after transformers has written and read them (sizes that it derives from
    those of the real model). Then the configuration is handed over, with the ties that are written in config.json.
    """
    try:
        return plain_model(config, folder, torch.float32)
    except Exception:
        written = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind, part = model_class(copy.deepcopy(config))
        for path, section in walk(part):
            values = written
            for key in path.split(".") if path else ():
                values = values.get(key, {})
            if "tie_word_embeddings" in values:
                section.tie_word_embeddings = values["tie_word_embeddings"]
        model: PreTrainedModel = kind.from_pretrained(folder, config=part, dtype=torch.float32)
        model.eval()
        return model


def apart(x: Tensor, y: Tensor) -> float:
    """|x - y| / |y|."""
    return float((x.double() - y.double()).norm() / y.double().norm())


def _version() -> str:
    """Of what the rows depend on: the tool's code and the installed libraries."""
    package = Path(abliterate.__file__).parent
    code = [
        path.read_text(encoding="utf-8")
        for part in ("anatomy", "edits")
        for path in sorted((package / part).glob("*.py"))
    ]
    return digest([transformers.__version__, torch.__version__, Path(__file__).read_text(encoding="utf-8"), *code])


def _kept(path: Path) -> dict[str, Row]:
    if not path.exists():
        return {}
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {entry["row"]["kind"]: Row(**entry["row"]) for entry in entries if entry["version"] == _version()}


def _keep(path: Path, row: Row) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"version": _version(), "row": asdict(row)}) + "\n")


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.0e}"


def _line(row: Row) -> str:
    figures = " ".join(f"{_figure(value):>6}" for value in (row.stream, row.memory, row.disk, row.reads))
    counts = f"{row.writers:3} {row.behind_norms:3}"
    return f"{row.kind:26} {row.outcome:8} {counts} {figures} {row.seconds:5.1f} s  {row.reason}"


def _markdown(rows: Sequence[Row]) -> str:
    counts = summary(rows)
    lines = [
        "# What works on which architecture",
        "",
        f"Made by `python -m benchmarks.architectures` with transformers {counts['transformers']}: of {counts['types']}"
        f" types {counts['ran']} run as tiny random models; of these {counts['exact_disk']} are exact in memory and on"
        f" disk, {sum(row.outcome == 'memory' for row in rows)} in memory alone, {counts['hooks_only']} by hooks alone,"
        f" {counts['refused']} are refused, {counts['wrong']} are wrong. [anatomy.md](anatomy.md) explains how.",
        "",
        "*Stream* is the largest component that an edit of full strength leaves, relative to the stream; the others are"
        " differences of logits, relative: *memory* between folded weights and hooks, *disk* between the reloaded"
        " checkpoint and hooks, *reads* between hooks and removing the direction where the stream is read (empty where"
        " a norm follows a writer). Four layers, float32, strengths 1 and 0.6. *Renamed*: the names on disk differ.",
        "",
        "| type | outcome | writers | behind norms | renamed | stream | memory | disk | reads | reason |",
        "| --- | --- | --: | --: | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = [row.kind, row.outcome, str(row.writers), str(row.behind_norms), "yes" if row.renamed else ""]
        cells += [_figure(value) for value in (row.stream, row.memory, row.disk, row.reads)]
        lines.append("| " + " | ".join([*cells, row.reason.replace("|", "\\|")]) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
