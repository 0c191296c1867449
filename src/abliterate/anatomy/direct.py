"""The direct path of a forward pass: from each write to the end of the residual stream, with every read cut.

The stream is a sum. Seen from its end, every write arrives through additions, constant factors and norms, and through
nothing else; all the rest of a transformer is reads, which compute what is written. Under this mode, autograd follows
the direct path alone: a product with a parameter passes gradients to the parameter and not to what it is multiplied
with, and non-linear functions, among them the statistics of norms, count as constants. So after one backward pass,
the gradient of a projection <r, x> of the stream at a weight W is u v^T, where v holds what the weight was multiplied
with and u is the direction whose removal from the output of W removes r from its write.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# By name without underscores, so that `x.pow`, `torch.pow` and `x.pow_` are one. A function missing here lets
# gradients through a read: the gradient is then of no single direction, and the parameter is refused, not misjudged.
NONLINEAR = frozenset(
    """
    abs acos amax amin argmax asin atan celu clamp clamp_max clamp_min clip cos cosh cross_entropy cummax
    cumprod elu erf exp exp2 expm1 frac gelu glu group_norm gumbel_softmax hardsigmoid hardswish hardtanh
    leaky_relu linalg_norm log log10 log1p log2 log_softmax logcumsumexp logsigmoid logsumexp max maximum min
    minimum mish norm normalize pow prelu prod reciprocal relu relu6 rms_statistic round rpow rrelu rsqrt selu
    sigmoid sign silu sin sinh softmax softmin softplus softsign sort sqrt square std std_mean tan tanh topk
    triangular_solve trunc var var_mean vector_norm scaled_dot_product_attention
    """.split()  # noqa: SIM905 - a list of so many would fill a screen
)
# Their first operand is an activation, the second a weight.
LAYERS = frozenset({"linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "bilinear"})
PRODUCTS = frozenset({"matmul", "rmatmul", "mm", "bmm", "einsum", "embedding", "embedding_bag", "grouped_mm", "mv"})
SUMS_OF_PRODUCTS = frozenset({"addmm", "baddbmm", "addbmm"})
FACTORS = frozenset({"mul", "rmul", "imul", "multiply"})
QUOTIENTS = frozenset({"div", "truediv", "rtruediv", "itruediv", "true_divide", "divide"})
UNTOUCHED = frozenset({"set", "delete", "size", "dim", "stride", "numel", "is_floating_point"})


def function_name(function: Callable[..., Any]) -> str:
    """The name of a torch function or method, without the underscores of operators and in-place variants."""
    return str(getattr(function, "__name__", "")).strip("_")


def tensors_in(value: object) -> Iterator[Tensor]:
    """Every tensor in a tree of arguments."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


class DirectPath(TorchFunctionMode):
    """Lets gradients follow the direct path only. A numerically faithful forward pass otherwise."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        """Run one function with its reads cut."""
        kwargs = kwargs or {}
        name = function_name(func)
        if name == "set_grad_enabled":
            return None  # writes that a model computes under no_grad (sinusoidal positions) are writes too
        if name in UNTOUCHED:
            return func(*args, **kwargs)
        if name == "layer_norm":
            return _frozen_norm(*args, **kwargs, centred=True)
        if name == "rms_norm":
            return _frozen_norm(*args, **kwargs, centred=False)
        if name in LAYERS | PRODUCTS | SUMS_OF_PRODUCTS | FACTORS | QUOTIENTS:
            args, kwargs = _cut(name, args, kwargs)
        output = func(*args, **kwargs)
        if name in NONLINEAR:
            return _map(output, Tensor.detach)
        if name not in LAYERS | PRODUCTS | SUMS_OF_PRODUCTS and _all_weights((args, kwargs)):
            for tensor in tensors_in(output):
                _mark(tensor)
        return output


def _cut(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same arguments, with those detached through which the function reads."""
    if name in QUOTIENTS:
        return (args[0], _map(args[1], Tensor.detach), *args[2:]), kwargs
    if name in LAYERS:
        if not args:
            return args, {**kwargs, "input": kwargs["input"].detach()}
        return (args[0].detach(), *args[1:]), kwargs
    if name in SUMS_OF_PRODUCTS:
        factors = _cut_activations(args[1:3]) if any(_is_weight(x) for x in args[1:3]) else args[1:3]
        return (args[0], *factors, *args[3:]), kwargs
    if name in FACTORS:
        return (*_cut_factors(args[0], args[1]), *args[2:]), kwargs
    if any(_is_weight(x) for x in tensors_in((args, kwargs))):
        return _cut_activations(args), {key: _cut_activations(value) for key, value in kwargs.items()}
    return args, kwargs


def _cut_factors(a: object, b: object) -> tuple[object, object]:
    """A gain times an activation is a constant times it; a product of two weights is a weight."""
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return a, b
    if a is b:
        return a, b.detach()
    if _is_weight(a) != _is_weight(b):
        return (a.detach(), b) if _is_weight(a) else (a, b.detach())
    return a, b


def _cut_activations(value: Any) -> Any:  # noqa: ANN401 - a tree of arguments
    return _map(value, lambda tensor: tensor if _is_weight(tensor) else tensor.detach())


def _frozen_norm(
    input: Tensor,
    normalized_shape: object,
    weight: Tensor | None = None,
    bias: Tensor | float | None = None,
    eps: float | None = None,
    *,
    centred: bool,
) -> Tensor:
    """LayerNorm or RMSNorm whose standard deviation is a constant; rms_norm passes its `eps` in the place of `bias`."""
    if isinstance(bias, float):
        bias, eps = None, bias
    x = input - input.mean(dim=-1, keepdim=True) if centred else input
    small = eps if eps is not None else torch.finfo(x.dtype).eps
    y = x * (x.detach() * x.detach()).mean(dim=-1, keepdim=True).add(small).sqrt().reciprocal()
    if weight is not None:
        y = y * weight.detach()
    return y if bias is None else y + bias


def _is_weight(value: object) -> bool:
    """Whether a tensor is a parameter or was made of parameters alone, by views, casts and constant factors."""
    return isinstance(value, nn.Parameter) or getattr(value, "_made_of_weights", False)


def _all_weights(value: object) -> bool:
    """Whether all of a function's operands are weights; single numbers are factors and do not count."""
    operands = [x for x in tensors_in(value) if x.is_floating_point()]
    return any(_is_weight(x) for x in operands) and all(_is_weight(x) or x.dim() == 0 for x in operands)


def _mark(tensor: Tensor) -> None:
    if tensor.is_floating_point() and not isinstance(tensor, nn.Parameter):
        tensor._made_of_weights = True  # type: ignore[attr-defined]


def _map(value: Any, change: Callable[[Tensor], Tensor]) -> Any:  # noqa: ANN401 - a tree of tensors
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (tuple, list)):
        items = [_map(item, change) for item in value]
        # torch.return_types are sequences that are built from one sequence
        return tuple(items) if type(value) is tuple else type(value)(items)
    return value
