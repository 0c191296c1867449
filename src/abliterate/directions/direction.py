"""A direction of the residual stream as a value: frozen, with algebra, provenance and a file format."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from abliterate.errors import ArtifactError, DirectionMismatch
from abliterate.files import write_atomic

SCHEMA = "abliterate.direction/1"


@dataclass(frozen=True)
class Provenance:
    """Where a direction came from.

    Attributes:
        model: the directory or hub id.
        revision: its hub commit, or `local`.
        config_hash: SHA-256 of its architecture.
        width: d.
        layers: L.
        template_hash: SHA-256 of the chat template and system prompt.
        prompt_hash: SHA-256 of the prompts it was fitted to.
        estimator: the formula, for example `difference_of_means`.
    """

    model: str
    revision: str
    config_hash: str
    width: int
    layers: int
    template_hash: str
    prompt_hash: str
    estimator: str


@dataclass(frozen=True, eq=False)
class Direction:
    """An orthonormal basis of a subspace of the residual stream.

    Attributes:
        basis: [k, d], float64, orthonormal rows.
        scale: norm of the raw difference of means (rank 1), which activation addition uses.
        position: template position it was read at, counted from the end.
        layer: block whose input it was read at.
        provenance: where it came from.
    """

    basis: Tensor
    scale: float
    position: int
    layer: int
    provenance: Provenance

    def __post_init__(self) -> None:
        basis = self.basis
        if basis.dim() != 2 or basis.dtype is not torch.float64:
            raise ValueError("a direction's basis must be orthonormal rows [k, d] in float64")
        gram = basis @ basis.T
        if not torch.allclose(gram, torch.eye(len(gram), dtype=gram.dtype), rtol=0, atol=1e-9):
            raise ValueError("a direction's basis must be orthonormal rows [k, d] in float64")

    @classmethod
    def from_vector(cls, vector: Tensor, *, position: int, layer: int, provenance: Provenance) -> Self:
        """The direction of a raw vector [d], whose norm becomes the scale.

        Raises:
            ValueError: the vector is zero or not finite.
        """
        raw = vector.detach().to("cpu", torch.float64)
        norm = float(raw.norm())
        if not norm > 0 or norm == float("inf"):
            raise ValueError("a direction needs a finite vector that is not zero")
        return cls((raw / norm).unsqueeze(0), norm, position, layer, provenance)

    @property
    def rank(self) -> int:
        """k, the dimension of the subspace."""
        return int(self.basis.shape[0])

    @property
    def vector(self) -> Tensor:
        """The raw vector [d]: scale times the unit vector. Rank 1 only.

        Raises:
            ValueError: the direction is a subspace.
        """
        if self.rank != 1:
            raise ValueError("a subspace has no single raw vector")
        return self.basis[0] * self.scale

    def __add__(self, other: "Direction") -> "Direction":
        return self._derived(self.vector + other.vector)

    def __sub__(self, other: "Direction") -> "Direction":
        return self._derived(self.vector - other.vector)

    def __mul__(self, factor: float) -> "Direction":
        return self._derived(self.vector * factor)

    __rmul__ = __mul__

    def __neg__(self) -> "Direction":
        return self * -1.0

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Direction)
            and (self.scale, self.position, self.layer, self.provenance)
            == (other.scale, other.position, other.layer, other.provenance)
            and torch.equal(self.basis, other.basis)
        )

    def __hash__(self) -> int:
        return hash((self.scale, self.position, self.layer, self.provenance))

    def cosine(self, other: "Direction") -> float:
        """Cosine between two rank-1 directions; the largest cosine of principal angles between subspaces."""
        overlap = self.basis @ other.basis.T
        return float(overlap) if overlap.numel() == 1 else float(torch.linalg.svdvals(overlap)[0])

    def check_fits(self, *, config_hash: str, width: int, layers: int, model: str) -> None:
        """Refuse a direction made for another model.

        Raises:
            DirectionMismatch: hidden size, layer count or config hash differ.
        """
        made_for = self.provenance
        remedy = f"find one for this model: abliterate find {model}"
        for what, ours, theirs in (
            ("hidden size", made_for.width, width),
            ("number of layers", made_for.layers, layers),
            ("config hash", made_for.config_hash[:12], config_hash[:12]),
        ):
            if ours != theirs:
                raise DirectionMismatch(
                    f"the direction was made for {made_for.model} ({what} {ours}), not for {model} ({theirs})",
                    remedy,
                )

    def save(self, path: Path) -> None:
        """Write a safetensors file with the basis in float64 and everything else as metadata."""
        about = {
            "scale": self.scale,
            "position": self.position,
            "layer": self.layer,
            "provenance": dataclasses.asdict(self.provenance),
        }
        metadata = {"schema": SCHEMA, "direction": json.dumps(about, sort_keys=True)}
        write_atomic(path, save({"basis": self.basis.contiguous()}, metadata))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ArtifactError: the file is missing, damaged or of another schema.
        """
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("schema") != SCHEMA:
                    raise ArtifactError(
                        f"{path} is not a direction of this version (schema {metadata.get('schema')})",
                        "make it anew with `abliterate find`",
                    )
                about = json.loads(metadata["direction"])
                basis = file.get_tensor("basis")
            return cls(basis, about["scale"], about["position"], about["layer"], Provenance(**about["provenance"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"cannot read the direction {path} ({error})", "make it anew with `abliterate find`"
            ) from error

    def _derived(self, vector: Tensor) -> "Direction":
        return Direction.from_vector(vector, position=self.position, layer=self.layer, provenance=self.provenance)
