"""How a checkpoint's weights are stored: plainly, in FP8 or MXFP4 that can be edited, or sealed in another format.

Answered from config.json and the tensors' names, dtypes and shapes; no weight is read. The tensors have the last
word: a layer that the quantiser left out is stored under its plain name in a floating-point dtype, and is edited like
any other, whatever list of exceptions names it. The config decides what names cannot say: block sizes that do not
divide a matrix, and schemes that round plainly stored weights when they are loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

from abliterate.anatomy.checkpoint import Stored
from abliterate.edits.quantconfig import FP8, Method, read_method
from abliterate.edits.requantise import Packed
from abliterate.errors import UnsupportedModel

FLOATS = {"F64", "F32", "F16", "BF16"}
SCALES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E8M0": torch.float8_e8m0fnu,
    "U8": torch.uint8,
}
SMALL = {*FP8, "F4", "F8_E8M0", "I8", "U8", "I32"}  # dtypes that only quantised weights and their scales have
# Multiplied with the codes, all of them, `weight_scale_inv` too. transformers renames the last two to the first.
SCALE_NAMES = ("weight_scale_inv", "weight_scale", "scale", "qscale_weight")
# Methods whose plainly stored tensors are used as they are stored.
AS_STORED = {
    *("aqlm", "auto-round", "awq", "compressed-tensors", "eetq", "fbgemm_fp8", "fp8", "gptq", "higgs", "modelopt"),
    *("mxfp4", "mxfp8", "quark", "spqr", "torchao", "vptq"),
}
# Methods that may round plainly stored matrices when they are loaded, which is sure not to be so where the checkpoint
# holds rounded ones (then those stored plainly are the exceptions); bitnet does it in every forward pass.
AT_LOAD = {"bitsandbytes", "hqq"}
REASONS = {
    "aqlm": "in codebooks fitted on calibration data",
    "auto-round": "with roundings learned on calibration data, which rounding an edited matrix anew would lose",
    "awq": "in 4-bit groups with scales searched on calibration data, which rounding an edited matrix anew would lose",
    "bitnet": "as three values a weight, which cannot hold an edit",
    "bitsandbytes": "as codes with scales that are themselves quantised",
    "gptq": "with roundings that make up for one another on calibration data, which rounding anew would lose",
}
REMEDY = (
    "bake the unquantised original and quantise the result, or leave this checkpoint as it is and use the edit as hooks"
)


@dataclass(frozen=True)
class Plain:
    """Stored in full or half precision under its own name, and used as it is stored."""

    name: str


@dataclass(frozen=True)
class Sealed:
    """Stored in a way that cannot be edited: in which tensors, and why."""

    parts: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Absent:
    """Not in the checkpoint, nor anything that could hold it."""


@dataclass(frozen=True)
class Scheme:
    """How one checkpoint stores its weights.

    Attributes:
        method: what the config says.
        stored: every tensor of the checkpoint.
    """

    method: Method
    stored: Mapping[str, Stored]

    @property
    def name(self) -> str:
        """For people; `none` where nothing is quantised."""
        return self.method.title

    def how(self, name: str) -> Plain | Packed | Sealed | Absent:
        """How a weight is stored.

        Args:
            name: the on-disk name that it has, or would have unquantised: `....o_proj.weight`, or that of fused
                experts without a suffix, `....experts.down_proj`.
        """
        parts = self._parts(name)
        own = self.stored.get(name)
        if not parts or (own is None and self.method.name is None):
            return Absent()
        if own is not None and own.dtype in FLOATS:
            return self._plain(name, own, parts)
        if self.method.rotated:
            return Sealed(parts, "its model rotates activations as it runs, so it is not known what is written")
        return self._mxfp4(name, parts) or self._fp8(name, own, parts) or self._sealed(parts)

    def editable(self, name: str) -> Plain | Packed:
        """As `how`, where the weight can be edited.

        Raises:
            UnsupportedModel: it is sealed, with the reason and what to do instead, or absent.
        """
        found = self.how(name)
        if isinstance(found, Sealed):
            raise UnsupportedModel(f"{name} cannot be edited on the disk: {found.reason}", REMEDY)
        if isinstance(found, Absent):
            raise UnsupportedModel(
                f"the checkpoint has no tensor {name}",
                "its tensors are stored under other names, which is not supported",
            )
        return found

    def weights(self) -> dict[str, tuple[int, ...]]:
        """Every weight by the name that it has, or would have unquantised, with its shape as the module holds it."""
        shapes = {}
        for name, tensor in self.stored.items():
            weight = name.removesuffix("_blocks")
            for packed in (".weight_packed", ".qweight"):
                weight = f"{weight.removesuffix(packed)}.weight" if weight.endswith(packed) else weight
            found = self.how(weight)
            if isinstance(found, Packed):
                *stack, rows, columns = found.shape
                shapes[weight] = (*stack, columns, rows) if found.transposed else found.shape
            elif not isinstance(found, Absent):
                shapes[weight] = tensor.shape
        return shapes

    def obstacle(self, name: str) -> str:
        """What is to be said before a weight is edited on the disk; empty where it is stored plainly."""
        found = self.how(name)
        if isinstance(found, Packed):
            return f"is stored in {self.name}: dequantised, edited and stored so again, with an error that is measured"
        return f"cannot be edited on the disk: {found.reason}" if isinstance(found, Sealed) else ""

    @cached_property
    def _under(self) -> dict[str, list[str]]:
        """Names of tensors by what stands before their last dot."""
        under: dict[str, list[str]] = {}
        for name in self.stored:
            under.setdefault(name.rpartition(".")[0], []).append(name)
        return under

    @cached_property
    def _holds_rounded(self) -> bool:
        return any(tensor.dtype in SMALL for tensor in self.stored.values())

    def _parts(self, name: str) -> tuple[str, ...]:
        """The weight itself and every tensor that may hold it or change what it means; not its bias."""
        parent, _, last = name.rpartition(".")
        if last == "weight":
            beside = [other for other in self._under.get(parent, ()) if other != f"{parent}.bias"]
        else:  # fused experts share their parent
            beside = [
                other
                for other in self._under.get(parent, ())
                if other == name or (other.startswith(f"{name}_") and other != f"{name}_bias")
            ]
        return (*beside, *self._under.get(name, ()), *self._under.get(f"{name}.quant_state", ()))

    def _plain(self, name: str, own: Stored, parts: tuple[str, ...]) -> Plain | Sealed:
        matrix = len(own.shape) > 1
        stem = name.removesuffix("weight") if name.endswith(".weight") else f"{name}_"
        scales = [part for part in parts if part.removeprefix(stem) in (*SCALE_NAMES, "scale_inv")]
        if self.method.rotated:
            return Sealed(parts, "its model rotates activations as it runs, so it is not known what is written")
        if self.method.name is None:
            return Plain(name)
        if matrix and scales:
            return Sealed(parts, f"it is stored as {own.dtype} next to {scales[0]}, and which is applied is not known")
        if matrix and (self.method.name == "bitnet" or (self.method.name in AT_LOAD and not self._holds_rounded)):
            return Sealed(parts, f"it is stored as {own.dtype}, but {self.name} rounds it when it is used")
        if self.method.name not in {*AS_STORED, *AT_LOAD, "bitnet"}:
            return Sealed(parts, f"{self.name} is not known here, nor whether it uses {own.dtype} weights as stored")
        return Plain(name)

    def _mxfp4(self, name: str, parts: tuple[str, ...]) -> Packed | None:
        """The layouts of gpt-oss, of compressed-tensors' mxfp4-pack-quantized, and of DeepSeek-V4's experts."""
        e2m1, block = torch.float4_e2m1fn_x2, (1, 32)
        blocks, scales = (self.stored.get(f"{name}_{part}") for part in ("blocks", "scales"))
        if blocks is not None and scales is not None:
            fits = blocks.shape == (*scales.shape, 16) and blocks.dtype == "U8" and scales.dtype in ("U8", "F8_E8M0")
            if not fits or len(scales.shape) != 3:
                return None
            wide = (*scales.shape[:-1], scales.shape[-1] * 32)
            return Packed(f"{name}_blocks", f"{name}_scales", e2m1, wide, block, SCALES[scales.dtype], transposed=True)
        for codes in (name, name.removesuffix("weight") + "weight_packed"):
            scale = self._scale(name)
            if codes not in self.stored or scale is None:
                continue
            packed, of = self.stored[codes], self.stored[scale]
            own = codes == name and packed.dtype in ("I8", "U8") and of.dtype == "F8_E8M0"
            compressed = codes != name and packed.dtype == "U8" and "mxfp4-pack-quantized" in self.method.formats
            whole = packed.shape[:-1] == of.shape[:-1] and packed.shape[-1] == 16 * of.shape[-1]
            if (own or compressed) and of.dtype in ("F8_E8M0", "U8") and whole and not self._odd(name, parts):
                shape = (*packed.shape[:-1], packed.shape[-1] * 2)
                return Packed(codes, scale, e2m1, shape, block, SCALES[of.dtype])
        return None

    def _fp8(self, name: str, own: Stored | None, parts: tuple[str, ...]) -> Packed | Sealed | None:
        if own is None or own.dtype not in FP8 or len(own.shape) < 2:
            return None
        scale = self._scale(name)
        if scale is None or self.stored[scale].dtype not in SCALES:
            return Sealed(parts, f"it is stored as {own.dtype} without a scale of a known name and dtype")
        if odd := self._odd(name, parts):
            return Sealed(parts, f"what {odd[0]} does to it is not known")
        block = _block(own.shape, self.stored[scale].shape, self.method.block)
        if block is None or (self.method.name == "fbgemm_fp8" and len(own.shape) > 2):
            shapes = f"{list(own.shape)} with scales {list(self.stored[scale].shape)}"
            return Sealed(parts, f"which numbers of {shapes} belong together is not known")
        return Packed(name, scale, FP8[own.dtype], own.shape, block, SCALES[self.stored[scale].dtype])

    def _scale(self, name: str) -> str | None:
        """The name of a weight's scales."""
        if name.endswith(".weight"):
            candidates = [name.removesuffix("weight") + scale for scale in SCALE_NAMES]
        else:
            candidates = [f"{name}_scale_inv", f"{name}_scale"]
        return next((candidate for candidate in candidates if candidate in self.stored), None)

    def _odd(self, name: str, parts: tuple[str, ...]) -> list[str]:
        """Parts that change what the codes mean beyond one scale, such as zero points and second scales."""
        stem = name.removesuffix("weight")
        known = {name, self._scale(name), f"{stem}weight_packed", f"{stem}weight_shape"}
        inner = "weight" if name.endswith(".weight") else name.rpartition(".")[2]
        return [part for part in parts if part not in known and part.rpartition(".")[2].startswith(inner)]

    def _sealed(self, parts: tuple[str, ...]) -> Sealed:
        if self.method.name in REASONS:
            return Sealed(parts, f"{self.name} stores it {REASONS[self.method.name]}")
        dtypes = ", ".join(sorted({self.stored[part].dtype for part in parts}))
        by = "" if self.method.name is None else f" by {self.name}"
        return Sealed(parts, f"it is stored{by} in {dtypes}, a format that this tool does not write")


def recognise(config: Mapping[str, object], stored: Mapping[str, Stored]) -> Scheme:
    """The scheme of a checkpoint.

    Args:
        config: the parsed config.json.
        stored: every tensor of the checkpoint.
    """
    return Scheme(read_method(config, stored), stored)


def _block(shape: tuple[int, ...], scales: tuple[int, ...], wanted: tuple[int, int] | None) -> tuple[int, int] | None:
    """Rows and columns that share a scale, or None where the shapes allow no or no single answer."""
    rows, columns = shape[-2:]
    stack = 1
    for side in shape[:-2]:
        stack *= side
    count = 1
    for side in scales:
        count *= side
    if count == stack:
        return rows, columns
    if scales in ((*shape[:-2], rows), (*shape[:-2], rows, 1)):
        return 1, columns
    if len(scales) != len(shape) or scales[:-2] != shape[:-2]:
        return None
    if wanted and scales[-2:] == (-(-rows // wanted[0]), -(-columns // wanted[1])):
        return wanted
    if rows % scales[-2] or columns % scales[-1]:
        return None
    return rows // scales[-2], columns // scales[-1]
