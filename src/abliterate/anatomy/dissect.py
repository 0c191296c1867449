"""The anatomy of a model: its blocks, its writers, where hooks go, and the proof that all of it is right.

What the gradients found (writers.py) is believed only when, on the model at hand and for a random direction, the folded
weights leave nothing of it in the stream anywhere, hooks and folded weights are the same model at two strengths, and
removing the direction at the reads instead, which uses no list of writers, is that model too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from abliterate.anatomy.blocks import Blocks, Inputs, candidate_blocks, forward, pre_hooked, stream_of
from abliterate.anatomy.naming import pattern, places
from abliterate.anatomy.natural import natural_sites
from abliterate.anatomy.projection import behind
from abliterate.anatomy.sites import BasisAt, Site, find_sites, folded, removing, swapped
from abliterate.anatomy.twin import twin_inputs
from abliterate.anatomy.view import look, read_without
from abliterate.anatomy.writers import Finding, Gain, Writer, find_writers
from abliterate.errors import UnsupportedModel

# Float32: a sum of d products leaves 1e-7 of a component; logits of two orders of summation differ by 1e-6 after the
# norms and blocks of a deep model.
STREAM_TOLERANCE = 1e-6
LOGIT_TOLERANCE = 1e-5
STRENGTHS = (1.0, 0.5)


class Form(StrEnum):
    """What kind of edit is exact."""

    WEIGHTS = "weights"  # folded weights and hooks are the same model
    HOOKS = "hooks"  # hooks alone


@dataclass(frozen=True)
class Anatomy:
    """Where a model's residual stream runs and what writes to it.

    Attributes:
        width: d, the width of the stream.
        blocks: dotted names of the L blocks, in order.
        form: what kind of edit is exact.
        writers: every parameter that writes, embeddings first, then by block; none where only hooks are exact.
        sites: where hooks go.
        normed: whether a norm stands between a writer and the stream, whose statistics an edit of the writer shifts.
        renewed: norms whose output is the stream, in models that normalise the stream itself.
        reason: why the weights cannot carry an edit; empty where they can.
        copies: how many copies of the stream lie in its last axis, of `copies * d` then.
    """

    width: int
    blocks: tuple[str, ...]
    form: Form
    writers: tuple[Writer, ...]
    sites: tuple[Site, ...]
    renewed: tuple[str, ...] = ()
    normed: bool = False
    reason: str = ""
    copies: int = 1

    @property
    def layers(self) -> int:
        """L, the number of blocks."""
        return len(self.blocks)


def dissect(model: PreTrainedModel) -> Anatomy:
    """Find the anatomy of a model in memory, and prove it on that model.

    Raises:
        UnsupportedModel: something changes the stream in a way that neither weights nor hooks can undo; named.
    """
    tried: list[tuple[Blocks, str]] = []
    for blocks in candidate_blocks(model, twin_inputs(model)):
        anatomy, reason = _by_weights(model, blocks)
        if anatomy is not None:
            return anatomy
        tried.append((blocks, reason))
    refusals: list[UnsupportedModel] = []
    for blocks, reason in tried:
        try:
            return _by_hooks(model, blocks, reason)
        except UnsupportedModel as error:
            refusals.append(error)
    raise refusals[0]


def _by_weights(model: PreTrainedModel, blocks: Blocks) -> tuple[Anatomy | None, str]:
    """The anatomy of a model whose weights can carry the edit, or why they cannot."""
    finding = find_writers(model, blocks)
    if reason := _obstacle(blocks, finding):
        return None, reason
    writers = _with_idle(model, blocks, finding)
    sites = _checked_sites(model, blocks, writers)
    anatomy = Anatomy(blocks.width, blocks.names, Form.WEIGHTS, writers, sites, copies=blocks.copies)
    anatomy = replace(anatomy, normed=_passes_norms(model, anatomy, twin_inputs(model)))
    reason = _disproof(model, anatomy, twin_inputs(model))
    # A router on the edge between two experts may fall either way; it does not for two sets of tokens.
    if not reason or not _disproof(model, anatomy, twin_inputs(model, seed=10)):
        return anatomy, ""
    return None, reason


def _checked_sites(model: PreTrainedModel, blocks: Blocks, writers: Sequence[Writer]) -> tuple[Site, ...]:
    """Hook sites; where a hook at a module is not the folded weight, the parameter is replaced instead."""
    inputs = twin_inputs(model)
    sites = find_sites(model, blocks, writers, inputs)
    at = basis_at(model, _random_basis(blocks.width))
    if _same_as_folded(model, sites, writers, inputs, at):
        return sites
    by_module = {site.name: site for site in sites}
    checked: list[Site] = []
    for names in places(by_module).values():
        group = [by_module[name] for name in names]
        behind_group = [writer for writer in writers if any(_is_within(writer, site) for site in group)]
        if group[0].place == "parameter" or _same_as_folded(model, group, behind_group, inputs, at):
            checked += group
        else:
            checked += [
                Site(writer.parameter, "parameter", writer.gains, writer.layer, writer.out_axis)
                for writer in behind_group
            ]
    return tuple(checked)


def _is_within(writer: Writer, site: Site) -> bool:
    return writer.parameter == site.name or writer.parameter.startswith(f"{site.name}.")


def _same_as_folded(
    model: PreTrainedModel, sites: Sequence[Site], writers: Sequence[Writer], inputs: Inputs, at: BasisAt
) -> bool:
    with swapped(model, folded(model, writers, at, 1.0)):
        baked = forward(model, inputs)
    with removing(model, sites, at, 1.0):
        return _apart(forward(model, inputs), baked) <= LOGIT_TOLERANCE


def basis_at(model: PreTrainedModel, basis: Tensor) -> BasisAt:
    """For the rows of `basis` [k, d], what to remove behind given gains of this model; float64 on the CPU."""

    def at(gains: Sequence[Gain]) -> Tensor:
        diagonals = [gain.diagonal(model.get_parameter(gain.parameter)).cpu() for gain in gains]
        return behind(basis.double(), diagonals, [gain.centred for gain in gains])

    return at


def _obstacle(blocks: Blocks, finding: Finding) -> str:
    """Why no folded weights can do it, as far as the gradients tell."""
    if not all(finding.carried):
        # Seen from the end of the stream, the blocks before the last that changes it look as if they did too.
        where = [name for name, carried in zip(blocks.names, finding.carried, strict=True) if not carried][-1]
        return f"{where} does not add to the stream but normalises or rescales it, each channel in its own way"
    if finding.unclear:
        more = f" and {len(finding.unclear) - 1} more" if len(finding.unclear) > 1 else ""
        return (
            f"what {finding.unclear[0]}{more} writes reaches the stream through something that changes with the input"
        )
    if not any(writer.layer is None for writer in finding.writers):
        return "no embedding was seen to write to the stream"
    return ""


def _with_idle(model: PreTrainedModel, blocks: Blocks, finding: Finding) -> tuple[Writer, ...]:
    """The writers, with parameters that took no part but are siblings of one that did, as experts nobody chose."""
    siblings = {(pattern(writer.parameter), writer.layer): writer for writer in finding.writers}
    extra = []
    for name in finding.idle:
        sibling = siblings.get((pattern(name), blocks.layer_of(name)))
        if sibling is not None and model.get_parameter(name).shape == model.get_parameter(sibling.parameter).shape:
            extra.append(replace(sibling, parameter=name))
    return (*finding.writers, *extra)


def _random_basis(width: int) -> Tensor:
    basis = torch.randn(1, width, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    unit: Tensor = basis / basis.norm()
    return unit


def _disproof(model: PreTrainedModel, anatomy: Anatomy, inputs: Inputs) -> str:
    """What is wrong with an anatomy whose weights are to be folded; empty when nothing is."""
    basis = _random_basis(anatomy.width)
    at = basis_at(model, basis)
    with swapped(model, folded(model, anatomy.writers, at, 1.0)):
        baked = look(model, anatomy.blocks, inputs, basis, copies=anatomy.copies)
    if not baked.largest <= STREAM_TOLERANCE:
        where = baked.first_above(STREAM_TOLERANCE)
        return f"something else writes to the stream: {baked.largest:.1g} of it is left, first at {where}"
    for strength in STRENGTHS:
        with swapped(model, folded(model, anatomy.writers, at, strength)):
            folded_logits = forward(model, inputs)
        with removing(model, anatomy.sites, at, strength):
            hooked_logits = forward(model, inputs)
        if not (difference := _apart(hooked_logits, folded_logits)) <= LOGIT_TOLERANCE:
            return f"hooks and folded weights differ by {difference:.1g} of the logits at strength {strength}"
    if not anatomy.normed:
        read = read_without(model, anatomy.blocks, inputs, basis, copies=anatomy.copies, early=True)
        if not (difference := _apart(read, baked.logits)) <= LOGIT_TOLERANCE:
            return f"the edit changes more than what is read along the direction: {difference:.1g} of the logits"
    return ""


def _passes_norms(model: PreTrainedModel, anatomy: Anatomy, inputs: Inputs) -> bool:
    """Whether a norm, with a weight or without, stands between a writer and the stream: it undoes a factor."""
    if any(writer.gains for writer in anatomy.writers):
        return True
    seen: list[Tensor] = []

    def enter(module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        seen.append(stream_of(args, kwargs).clone())

    embeddings = [writer for writer in anatomy.writers if writer.layer is None]
    identity = torch.eye(anatomy.width, dtype=torch.float64)
    with pre_hooked([(model.get_submodule(anatomy.blocks[0]), enter)]):
        forward(model, inputs)
        with swapped(model, folded(model, embeddings, lambda gains: identity, -1.0)):  # twice each embedding
            forward(model, inputs)
    return _apart(seen[1], seen[0]) < LOGIT_TOLERANCE


def _by_hooks(model: PreTrainedModel, blocks: Blocks, reason: str) -> Anatomy:
    """The anatomy of a model whose weights cannot carry the edit.

    Raises:
        UnsupportedModel: hooks cannot either.
    """
    inputs = twin_inputs(model)
    sites, renewed = natural_sites(model, blocks, inputs)
    if not sites:
        raise UnsupportedModel(
            f"{reason}; and something is added to the stream that no module returned, so that no hook can edit it",
            "this architecture is not supported yet; please report its name",
        )
    anatomy = Anatomy(
        blocks.width, blocks.names, Form.HOOKS, (), sites, renewed=renewed, reason=reason, copies=blocks.copies
    )
    basis = _random_basis(blocks.width)
    with removing(model, sites, basis_at(model, basis), 1.0):
        hooked = look(model, blocks.names, inputs, basis, copies=blocks.copies, renewed=renewed)
    read = read_without(model, blocks.names, inputs, basis, copies=blocks.copies, renewed=renewed, early=False)
    difference = _apart(read, hooked.logits)
    if not hooked.largest <= STREAM_TOLERANCE or not difference <= LOGIT_TOLERANCE:
        raise UnsupportedModel(
            f"{reason}; and hooks on what it adds leave {hooked.largest:.1g} of the stream, first at"
            f" {hooked.first_above(STREAM_TOLERANCE)}",
            "this architecture is not supported yet; please report its name",
        )
    return anatomy


def _apart(x: Tensor, y: Tensor) -> float:
    """|x - y| / |y|."""
    return float((x.double() - y.double()).norm() / y.double().norm())
