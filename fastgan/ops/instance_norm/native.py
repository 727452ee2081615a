"""Instance norm by the extension."""

import torch
from torch import Tensor

from fastgan.ops import _native

_TINY = torch.finfo(torch.float32).tiny


def forward(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    activation: str | None,
    negative_slope: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The result, and the mean and 1 / sqrt(var + eps) of every plane, float32 (N, C)."""
    _native.check(x, *([] if residual is None else [residual]))
    out = _native.empty_like(x)
    mean, rstd = (x.new_empty(x.shape[:2], dtype=torch.float32) for _ in range(2))
    _native.call(
        "instance_norm_forward",
        x.device,
        _native.tensor_arg(x),
        tuple(x.shape),
        *_parameters(x, weight, bias),
        _native.ACTIVATIONS[activation],
        negative_slope,
        max(eps, _TINY),
        _native.tensor_arg(residual),
        _native.tensor_arg(out),
        _native.float32_ptr(mean),
        _native.float32_ptr(rstd),
        workspace=lambda module: module.instance_norm_workspace(tuple(x.shape)),
    )
    return out, mean, rstd


def backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    activation: str | None,
    negative_slope: float,
    needs_x: bool,
    needs_weight: bool,
    needs_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x and, (N, C) each, of weight and bias; empty where not needed."""
    _native.check(x, grad)
    shape = tuple(x.shape)
    for name, moments in (("mean", mean), ("rstd", rstd)):
        _native.check_numbers(name, moments, x, shape[:2])
    grad_x = _native.empty_like(x, needs_x)
    grad_weight, grad_bias = (
        x.new_empty(shape[:2] if needed else 0, dtype=torch.float32) for needed in (needs_weight, needs_bias)
    )
    _native.call(
        "instance_norm_backward",
        x.device,
        _native.tensor_arg(x),
        shape,
        *_parameters(x, weight, bias),
        _native.ACTIVATIONS[activation],
        negative_slope,
        0.0,  # eps stands in rstd
        _native.float32_ptr(mean.contiguous()),
        _native.float32_ptr(rstd.contiguous()),
        _native.tensor_arg(grad),
        _native.tensor_arg(grad_x if needs_x else None),
        _native.float32_ptr(grad_weight if needs_weight else None),
        _native.float32_ptr(grad_bias if needs_bias else None),
        workspace=lambda module: module.instance_norm_workspace(shape),
    )
    return grad_x, grad_weight, grad_bias


def _parameters(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> tuple[int, int, int, int]:
    """Pointer and stride from image to image, of weight and bias."""
    n, c = x.shape[:2]
    arguments = []
    for name, parameter in (("weight", weight), ("bias", bias)):
        _native.check_numbers(name, parameter, x, (c,), (n, c))
        arguments += [_native.float32_ptr(parameter), c if parameter is not None and parameter.dim() == 2 else 0]
    return arguments[0], arguments[1], arguments[2], arguments[3]
