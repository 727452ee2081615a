"""torch.ops.fastgan.conv3x3, differentiable once, by the extension."""

from typing import Any

import torch
from torch import Tensor

from fastgan.ops import _native
from fastgan.ops._library import define
from fastgan.ops.conv3x3 import native

conv3x3 = define(
    "conv3x3(Tensor x, Tensor weight, Tensor? bias, str padding, bool upsample, str? activation, float negative_slope)"
    " -> Tensor",
    native.forward,
    ("CPU",),
)
conv3x3_backward = define(
    "conv3x3_backward(Tensor grad, Tensor? x, Tensor? out, Tensor weight, SymInt[] size, str padding, bool upsample,"
    " str? activation, float negative_slope, bool needs_x, bool needs_weight, bool needs_bias)"
    " -> (Tensor, Tensor, Tensor)",
    native.backward,
    ("CPU",),
)


@torch.library.register_fake("fastgan::conv3x3")
def _(x: Tensor, weight: Tensor, bias: Tensor | None, padding: str, upsample: bool, *options: Any) -> Tensor:
    n, _, h, w = x.shape
    scale = 2 if upsample else 1
    return _native.room(x, (n, weight.shape[0], scale * h, scale * w), x.dtype, torch.channels_last)


@torch.library.register_fake("fastgan::conv3x3_backward")
def _(
    grad: Tensor, x: Tensor | None, out: Tensor | None, weight: Tensor, size: list[int], *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    *_, needs_x, needs_weight, needs_bias = options
    n, h, w = size
    k, c = weight.shape[:2]
    grad_x = _native.room(grad, (n, c, h, w), grad.dtype, torch.channels_last) if needs_x else grad.new_empty(0)
    return grad_x, torch.empty_like(weight) if needs_weight else weight.new_empty(0), weight.new_empty(k * needs_bias)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, weight, _, *ctx.options = inputs
    _, _, activation, _ = ctx.options
    ctx.size = [x.shape[0], *x.shape[2:]]
    ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, None if activation is None else output, weight)


def _pull_back(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, out, weight = ctx.saved_tensors
    needs = ctx.needs_input_grad[:3]
    grads = conv3x3_backward(grad, x, out, weight, ctx.size, *ctx.options, *needs)
    return *(each if needed else None for each, needed in zip(grads, needs, strict=True)), None, None, None, None


torch.library.register_autograd("fastgan::conv3x3", _pull_back, setup_context=_setup)


def native_conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    return conv3x3(x, weight.float().contiguous(), None if bias is None else bias.float().contiguous(), *options)
