"""Following the residual stream through a forward pass, function by function, without a list of writers.

A tensor that enters or leaves a block is the stream. So is whatever is made of it by an addition, a view, a cast or a
factor per token, since all of these commute with a projection of the last axis. Any other function that is given the
stream reads it. That is all one needs to measure the stream wherever it is read (the middle of a block included), or
to ablate it at its reads: a second way to the model that an edit of the writers makes, which shares nothing with it.
"""

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from abliterate.anatomy.direct import FACTORS, QUOTIENTS, UNTOUCHED, function_name, tensors_in

OnRead = Callable[[Tensor], Tensor | None]
OnWrite = Callable[[Tensor], None]

SUMS = frozenset({"add", "radd", "iadd", "sub", "rsub", "isub"})
SHAPES = frozenset(
    """
    alias as_strided broadcast_to cat chunk clone concat concatenate contiguous cpu cuda detach double dropout
    expand expand_as flatten float flip getitem half identity index_select masked_fill masked_scatter movedim
    moveaxis narrow neg permute pin_memory repeat repeat_interleave requires_grad_ reshape reshape_as roll
    scatter select slice split split_with_sizes squeeze stack swapaxes t T mT to transpose type type_as unbind
    unflatten unsqueeze view view_as where bfloat16
    """.split()  # noqa: SIM905 - a list of so many would fill a screen
)
JOINS = frozenset({"cat", "concat", "concatenate", "stack", "where"})
# Sums over tokens or copies of the stream leave its last axis alone; over the last axis they read it.
REDUCTIONS = frozenset({"sum", "mean"})
MIXTURES = frozenset({"matmul", "rmatmul", "bmm", "einsum"})
# They make tensors that have the stream's shape or dtype and none of its numbers.
TEMPLATES = frozenset(
    """
    new_zeros new_ones new_full new_empty new_tensor zeros_like ones_like empty_like full_like rand_like
    randn_like is_floating_point is_contiguous is_cuda element_size get_device nelement storage data_ptr
    untyped_storage type_promotion result_type can_cast is_tensor is_nonzero hash format repr len register_hook
    ndimension is_complex size numel finfo promote_types
    """.split()  # noqa: SIM905 - a list of so many would fill a screen
)


class Stream(TorchFunctionMode):
    """Calls `on_read` with every stream tensor that is read, and reads what it returns instead, if anything.

    Args:
        widths: d, or what else its last axis may be; whatever has another last axis is no stream.
        on_read: called with the tensor that is read.
        on_write: called with each tensor that is added to the stream, if given.
    """

    def __init__(self, widths: Iterable[int], on_read: OnRead, on_write: OnWrite | None = None) -> None:
        super().__init__()
        self.widths, self.on_read, self.on_write = frozenset(widths), on_read, on_write

    def mark(self, tensor: Tensor) -> None:
        """Say that a tensor is the stream."""
        tensor._is_stream = True  # type: ignore[attr-defined]

    def unmarked(self, tensor: Tensor) -> Tensor:
        """The same numbers as a tensor that is not followed."""
        plain = tensor.detach()
        plain._is_stream = False  # type: ignore[attr-defined]
        return plain

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        """Run one function, following the stream through it."""
        kwargs = kwargs or {}
        name = function_name(func)
        if name in UNTOUCHED or name in TEMPLATES:
            return func(*args, **kwargs)
        if not any(is_stream(x) for x in tensors_in((args, kwargs))):
            output = func(*args, **kwargs)
            return output if self.on_write is None else _keep_origin(name, args, output)
        if name in SHAPES and name not in JOINS and not is_stream(args[0]):
            return func(*args, **kwargs)  # the stream only lends its shape or dtype, as in `x.type_as(stream)`
        if name == "get":  # a property: its shape, its device, or its transpose
            value = func(*args, **kwargs)
            return self._follow(func, args, kwargs) if isinstance(value, Tensor) else value
        if not self._keeps(name, args, kwargs):
            return self._finish_read(func, args, kwargs)
        if name in SUMS and self.on_write is not None:
            for x in tensors_in(args[:2]):
                if not is_stream(x):
                    self.on_write(x)
        return self._follow(func, args, kwargs)

    def _follow(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        """Run a function whose result is the stream again."""
        output = func(*args, **kwargs)
        whole = [x for x in tensors_in(output) if x.dim() and x.shape[-1] in self.widths]
        if not whole:  # a view that takes the last axis apart: later functions would not know the stream in it
            return self._finish_read(func, args, kwargs)
        for tensor in whole:
            self.mark(tensor)
        return output

    def _finish_read(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        """Run a function that reads the stream."""
        output = func(*self._read(args), **self._read(kwargs))
        for tensor in tensors_in(output):
            tensor._is_stream = False  # type: ignore[attr-defined]  # an in-place function returns its operand
        return output

    def _keeps(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether the result of this function is the stream again."""
        if name in SUMS:  # what is subtracted with no width of its own is the mean of a norm
            return all(x.dim() and x.shape[-1] in self.widths for x in tensors_in(args[:2]))
        if name in SHAPES:
            return self._keeps_last_axis(name, args, kwargs)
        if name in FACTORS | QUOTIENTS:
            return (
                name not in {"rtruediv", "rdiv"}
                and all(is_stream(x) or x.dim() == 0 or x.shape[-1] == 1 for x in tensors_in(args[:2]))
                and sum(is_stream(x) for x in tensors_in(args[:2])) == 1
            )
        if name in REDUCTIONS:
            axes = kwargs.get("dim", args[1] if len(args) > 1 else None)
            axes = (axes,) if isinstance(axes, int) else axes
            rank = args[0].dim()
            return axes is not None and all(axis % rank != rank - 1 for axis in axes)
        if name in MIXTURES:  # copies of the stream mixed by coefficients per token, as hyper-connections do
            operands = list(tensors_in(args))
            return name in {"matmul", "bmm"} and is_stream(operands[1]) and not is_stream(operands[0])
        return False

    def _keeps_last_axis(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        if name in JOINS - {"where"}:
            axis = kwargs.get("dim", args[1] if len(args) > 1 else 0)
            rank = next(x for x in tensors_in(args)).dim() + (name == "stack")
            return all(is_stream(x) for x in tensors_in(args[0])) and axis % rank != rank - 1
        return True

    def _read(self, value: Any) -> Any:  # noqa: ANN401 - a tree of arguments
        if isinstance(value, Tensor):
            instead = self.on_read(value) if is_stream(value) else None
            return value if instead is None else instead
        if isinstance(value, (tuple, list)) and any(is_stream(x) for x in tensors_in(value)):
            return type(value)(self._read(item) for item in value)
        if isinstance(value, dict):
            return {key: self._read(item) for key, item in value.items()}
        return value


def origin(tensor: Tensor) -> str | None:
    """The module that returned a tensor, if `came_from` was told, up to views and factors per token."""
    return getattr(tensor, "_origin", None)


def came_from(tensor: Tensor, module: str) -> None:
    """Remember which module returned a tensor."""
    tensor._origin = module  # type: ignore[attr-defined]


def _keep_origin(name: str, args: tuple[Any, ...], output: object) -> object:
    if name in SHAPES | FACTORS | QUOTIENTS and isinstance(output, Tensor) and args and origin(output) is None:
        known = [x for x in tensors_in(args) if origin(x) is not None]
        others = [x for x in tensors_in(args[:2]) if origin(x) is None and x.dim() and x.shape[-1] != 1]
        if len(known) == 1 and (name in SHAPES or not others):
            came_from(output, str(origin(known[0])))
    return output


def is_stream(value: object) -> bool:
    """Whether a tensor has been marked as the residual stream."""
    return isinstance(value, Tensor) and getattr(value, "_is_stream", False)
