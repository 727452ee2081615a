"""Bias, activation, gain and clamp by the extension."""

import torch
from torch import Tensor

from fastgan.ops import _native


def forward(
    x: Tensor, bias: Tensor | None, activation: str | None, negative_slope: float, gain: float, clamp: float | None
) -> Tensor:
    _native.check(x)
    _native.check_numbers("bias", bias, x, (x.shape[1],))
    out = _native.empty_like(x)
    _native.call(
        "bias_act_forward",
        x.device,
        _native.tensor_arg(x),
        tuple(x.shape),
        _native.float32_ptr(bias),
        _native.ACTIVATIONS[activation],
        negative_slope,
        gain,
        -1.0 if clamp is None else clamp,
        _native.tensor_arg(out),
    )
    return out


def backward(
    grad: Tensor,
    x: Tensor,
    bias: Tensor | None,
    activation: str | None,
    negative_slope: float,
    gain: float,
    clamp: float | None,
    needs_x: bool,
    needs_bias: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of x and bias; empty where not needed."""
    _native.check(x, grad)
    c = x.shape[1]
    _native.check_numbers("bias", bias, x, (c,))
    grad_x = _native.empty_like(x, needs_x)
    grad_bias = x.new_empty(c if needs_bias else 0, dtype=torch.float32)
    _native.call(
        "bias_act_backward",
        x.device,
        _native.tensor_arg(x),
        tuple(x.shape),
        _native.float32_ptr(bias),
        _native.ACTIVATIONS[activation],
        negative_slope,
        gain,
        -1.0 if clamp is None else clamp,
        _native.tensor_arg(grad),
        _native.tensor_arg(grad_x if needs_x else None),
        _native.float32_ptr(grad_bias if needs_bias else None),
        workspace=lambda module: module.bias_act_workspace(tuple(x.shape)),
    )
    return grad_x, grad_bias
