"""torch.ops.fastgan.gram and gram_style_loss, with their closed-form gradients, by the extension."""

from typing import Any

import torch
from torch import Tensor

from fastgan.ops._library import define
from fastgan.ops.gram import native

_gram = define("gram(Tensor x) -> Tensor", native.gram)
_gram_backward = define("gram_backward(Tensor grad, Tensor x) -> Tensor", native.gram_backward)
_loss = define("gram_style_loss(Tensor x, Tensor target) -> (Tensor, Tensor)", native.gram_style_loss)
_loss_backward = define(
    "gram_style_loss_backward(Tensor grad, Tensor x, Tensor difference) -> Tensor", native.gram_style_loss_backward
)


@torch.library.register_fake("fastgan::gram")
def _(x: Tensor) -> Tensor:
    n, c = x.shape[:2]
    return x.new_empty((n, c, c), dtype=torch.float32)


@torch.library.register_fake("fastgan::gram_backward")
def _(grad: Tensor, x: Tensor) -> Tensor:
    return torch.empty_like(x)


@torch.library.register_fake("fastgan::gram_style_loss")
def _(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    n, c = x.shape[:2]
    return x.new_empty(n, dtype=torch.float32), x.new_empty((n, c, c), dtype=torch.float32)


@torch.library.register_fake("fastgan::gram_style_loss_backward")
def _(grad: Tensor, x: Tensor, difference: Tensor) -> Tensor:
    return torch.empty_like(x)


def _setup_gram(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward_gram(ctx: Any, grad: Tensor) -> Tensor:
    return _gram_backward(grad, *ctx.saved_tensors)


def _setup_loss(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
    x, target = inputs
    difference = output[1]
    ctx.save_for_backward(x, difference)
    ctx.mark_non_differentiable(difference)
    ctx.target_dtype, ctx.one_target = target.dtype, target.dim() == 2


def _backward_loss(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, Tensor | None]:
    x, difference = ctx.saved_tensors
    grad_x = _loss_backward(grad, x, difference) if ctx.needs_input_grad[0] else None
    grad_target = None
    if ctx.needs_input_grad[1]:
        grad_target = difference * (grad.view(-1, 1, 1) * (-2 / x.shape[1] ** 2))
        if ctx.one_target:
            grad_target = grad_target.sum(0)
        grad_target = grad_target.to(ctx.target_dtype)
    return grad_x, grad_target


torch.library.register_autograd("fastgan::gram", _backward_gram, setup_context=_setup_gram)
torch.library.register_autograd("fastgan::gram_style_loss", _backward_loss, setup_context=_setup_loss)


def gram(x: Tensor) -> Tensor:
    return _gram(x)


def gram_style_loss(x: Tensor, target: Tensor) -> Tensor:
    return _loss(x, target)[0]
