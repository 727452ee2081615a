"""torch.ops.fastgan.gram and gram_style_loss, with their closed-form gradients, by the extension."""

from typing import Any

import torch
from torch import Tensor

from fastgan.ops import _native
from fastgan.ops._library import define
from fastgan.ops.gram import native

_gram = define("gram(Tensor x) -> Tensor", native.gram)
_gram_backward = define("gram_backward(Tensor grad, Tensor x) -> Tensor", native.gram_backward)
_loss = define(
    "gram_style_loss(Tensor x, Tensor target, int rows, int cols, float window_weight) -> (Tensor, Tensor, Tensor)",
    native.gram_style_loss,
)
_loss_backward = define(
    "gram_style_loss_backward(Tensor grad, Tensor x, Tensor target, Tensor difference, int rows, int cols, "
    "bool needs_x, bool needs_target) -> (Tensor, Tensor)",
    native.gram_style_loss_backward,
)


@torch.library.register_fake("fastgan::gram")
def _(x: Tensor) -> Tensor:
    n, c = x.shape[:2]
    return x.new_empty((n, c, c), dtype=torch.float32)


@torch.library.register_fake("fastgan::gram_backward")
def _(grad: Tensor, x: Tensor) -> Tensor:
    return _native.empty_like(x)


@torch.library.register_fake("fastgan::gram_style_loss")
def _(x: Tensor, target: Tensor, rows: int, cols: int, window_weight: float) -> tuple[Tensor, Tensor, Tensor]:
    n, c = x.shape[:2]
    per_image = x.new_empty(n, dtype=torch.float32)
    return per_image, torch.empty_like(per_image), x.new_empty((n, rows, cols, c * (c + 1) // 2), dtype=torch.float32)


@torch.library.register_fake("fastgan::gram_style_loss_backward")
def _(
    grad: Tensor, x: Tensor, target: Tensor, difference: Tensor, rows: int, cols: int, needs_x: bool, needs_target: bool
) -> tuple[Tensor, Tensor]:
    grad_target = target.new_empty(target.shape if needs_target else 0)
    return _native.empty_like(x, needs_x), grad_target


def _setup_gram(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward_gram(ctx: Any, grad: Tensor) -> Tensor:
    return _gram_backward(grad, *ctx.saved_tensors)


def _setup_loss(
    ctx: Any, inputs: tuple[Tensor, Tensor, int, int, float], output: tuple[Tensor, Tensor, Tensor]
) -> None:
    x, target, ctx.rows, ctx.cols, _ = inputs
    _, whole, difference = output
    ctx.save_for_backward(x, target, difference)
    ctx.mark_non_differentiable(whole, difference)


def _backward_loss(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, Tensor | None, None, None, None]:
    needs_x, needs_target = ctx.needs_input_grad[:2]
    grad_x, grad_target = _loss_backward(grad, *ctx.saved_tensors, ctx.rows, ctx.cols, needs_x, needs_target)
    return grad_x if needs_x else None, grad_target if needs_target else None, None, None, None


torch.library.register_autograd("fastgan::gram", _backward_gram, setup_context=_setup_gram)
torch.library.register_autograd("fastgan::gram_style_loss", _backward_loss, setup_context=_setup_loss)


def gram(x: Tensor) -> Tensor:
    return _gram(x)


def gram_style_loss(x: Tensor, target: Tensor, rows: int, cols: int, window_weight: float) -> tuple[Tensor, Tensor]:
    loss, whole, _ = _loss(x, target, rows, cols, window_weight)
    return loss, whole
