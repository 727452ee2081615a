"""torch.ops.fastgan.bias_act, with the gradients of x and bias, by the extension."""

from typing import Any

import torch
from torch import Tensor

from fastgan.ops import _native
from fastgan.ops._library import define
from fastgan.ops.bias_act import native

_bias_act = define(
    "bias_act(Tensor x, Tensor? bias, str? activation, float negative_slope, float gain, float? clamp) -> Tensor",
    native.forward,
)
_bias_act_backward = define(
    "bias_act_backward(Tensor grad, Tensor x, Tensor? bias, str? activation, float negative_slope, float gain,"
    " float? clamp, bool needs_x, bool needs_bias) -> (Tensor, Tensor)",
    native.backward,
)


@torch.library.register_fake("fastgan::bias_act")
def _(
    x: Tensor, bias: Tensor | None, activation: str | None, negative_slope: float, gain: float, clamp: float | None
) -> Tensor:
    return _native.room_like(x)


@torch.library.register_fake("fastgan::bias_act_backward")
def _(
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
    grad_bias = x.new_empty(x.shape[1] if needs_bias else 0, dtype=torch.float32)
    return _native.room_like(x, needs_x), grad_bias


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, bias, *ctx.options = inputs
    ctx.save_for_backward(x, bias)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needs_x, needs_bias = ctx.needs_input_grad[:2]
    grad_x, grad_bias = _bias_act_backward(grad, *ctx.saved_tensors, *ctx.options, needs_x, needs_bias)
    return grad_x if needs_x else None, grad_bias if needs_bias else None, None, None, None, None


torch.library.register_autograd("fastgan::bias_act", _backward, setup_context=_setup)


def bias_act(
    x: Tensor, bias: Tensor | None, activation: str | None, negative_slope: float, gain: float, clamp: float | None
) -> Tensor:
    bias = None if bias is None else bias.float().contiguous()
    return _bias_act(x, bias, activation, negative_slope, gain, clamp)
