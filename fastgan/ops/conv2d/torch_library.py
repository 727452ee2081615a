"""torch.ops.fastgan.conv2d, differentiable once, by the extension."""

from typing import Any

import torch
from torch import Tensor

from fastgan.ops import _native
from fastgan.ops._library import define
from fastgan.ops.conv2d import native

conv2d = define(
    "conv2d(Tensor x, Tensor weight, Tensor? bias, int stride, str padding, bool upsample, str? activation,"
    " float negative_slope) -> Tensor",
    native.forward,
    ("CPU",),
)
conv2d_backward = define(
    "conv2d_backward(Tensor grad, Tensor? x, Tensor? out, Tensor weight, SymInt[] size, int stride, str padding,"
    " bool upsample, str? activation, float negative_slope, bool needs_x, bool needs_weight, bool needs_bias)"
    " -> (Tensor, Tensor, Tensor)",
    native.backward,
    ("CPU",),
)


@torch.library.register_fake("fastgan::conv2d")
def _(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: str, upsample: bool, *_: Any) -> Tensor:
    shape = native.output_shape(x.shape, weight.shape, stride, upsample)
    return _native.empty(x, shape, x.dtype, torch.channels_last)


@torch.library.register_fake("fastgan::conv2d_backward")
def _(
    grad: Tensor, x: Tensor | None, out: Tensor | None, weight: Tensor, size: list[int], *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    *_, needs_x, needs_weight, needs_bias = options
    n, h, w = size
    k, c = weight.shape[:2]
    grad_x = _native.empty(grad, (n, c, h, w), grad.dtype, torch.channels_last) if needs_x else grad.new_empty(0)
    grad_weight = weight.new_empty(weight.shape if needs_weight else 0)
    return grad_x, grad_weight, weight.new_empty(k if needs_bias else 0)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, weight, _, *ctx.options = inputs
    *_, activation, _ = ctx.options
    ctx.size = [x.shape[0], *x.shape[2:]]
    # A frozen weight does not need the input, and without an activation the output is not needed.
    ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, None if activation is None else output, weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, out, weight = ctx.saved_tensors
    needs = ctx.needs_input_grad[:3]
    grads = conv2d_backward(grad, x, out, weight, ctx.size, *ctx.options, *needs)
    return *(gradient if needed else None for gradient, needed in zip(grads, needs, strict=True)), *[None] * 5


torch.library.register_autograd("fastgan::conv2d", _backward, setup_context=_setup)


def native_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    return conv2d(x, weight.float().contiguous(), None if bias is None else bias.float().contiguous(), *options)
