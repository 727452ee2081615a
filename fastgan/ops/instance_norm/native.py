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
    out = _native.room_like(x)
    mean, rstd = (x.new_empty(x.shape[:2], dtype=torch.float32) for _ in range(2))
    _native.call(
        "instance_norm_forward",
        x.device,
        _native.view(x),
        tuple(x.shape),
        *_parameters(x, weight, bias),
        _native.ACTIVATIONS[activation],
        negative_slope,
        max(eps, _TINY),
        _native.view(residual),
        _native.view(out),
        _native.floats(mean),
        _native.floats(rstd),
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
    grad_x = _native.room_like(x, needs_x)
    grad_weight, grad_bias = (
        x.new_empty(shape[:2] if needed else 0, dtype=torch.float32) for needed in (needs_weight, needs_bias)
    )
    _native.call(
        "instance_norm_backward",
        x.device,
        _native.view(x),
        shape,
        *_parameters(x, weight, bias),
        _native.ACTIVATIONS[activation],
        negative_slope,
        0.0,  # eps stands in rstd
        _native.floats(mean.contiguous()),
        _native.floats(rstd.contiguous()),
        _native.view(grad),
        _native.view(grad_x if needs_x else None),
        _native.floats(grad_weight if needs_weight else None),
        _native.floats(grad_bias if needs_bias else None),
        workspace=lambda module: module.instance_norm_workspace(shape),
    )
    return grad_x, grad_weight, grad_bias


def _parameters(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> tuple[int, int, int, int]:
    """Pointer and floats from image to image, of each."""
    n, c = x.shape[:2]
    views = []
    for name, parameter in (("weight", weight), ("bias", bias)):
        _native.check_numbers(name, parameter, x, (c,), (n, c))
        views += [_native.floats(parameter), c if parameter is not None and parameter.dim() == 2 else 0]
    return views[0], views[1], views[2], views[3]
