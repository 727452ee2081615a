"""torch.ops.fastgan.instance_norm, with the gradients of all inputs, by the extension."""

from typing import Any

import torch
from torch import Tensor

from fastgan.ops import _native
from fastgan.ops._library import define
from fastgan.ops.instance_norm import native

_norm = define(
    "instance_norm(Tensor x, Tensor? weight, Tensor? bias, Tensor? residual, str? activation, float negative_slope,"
    " float eps) -> (Tensor, Tensor, Tensor)",
    native.forward,
)
_norm_backward = define(
    "instance_norm_backward(Tensor grad, Tensor x, Tensor? weight, Tensor? bias, Tensor mean, Tensor rstd,"
    " str? activation, float negative_slope, bool needs_x, bool needs_weight, bool needs_bias)"
    " -> (Tensor, Tensor, Tensor)",
    native.backward,
)


@torch.library.register_fake("fastgan::instance_norm")
def _(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    activation: str | None,
    negative_slope: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    mean, rstd = (x.new_empty(x.shape[:2], dtype=torch.float32) for _ in range(2))
    return _native.room_like(x), mean, rstd


@torch.library.register_fake("fastgan::instance_norm_backward")
def _(
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
    grad_weight, grad_bias = (
        x.new_empty(x.shape[:2] if needed else 0, dtype=torch.float32) for needed in (needs_weight, needs_bias)
    )
    return _native.room_like(x, needs_x), grad_weight, grad_bias


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, weight, bias, _, ctx.activation, ctx.negative_slope, _ = inputs
    _, mean, rstd = output
    ctx.mark_non_differentiable(mean, rstd)
    ctx.save_for_backward(x, weight, bias, mean, rstd)


def _backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    x, weight, bias, mean, rstd = ctx.saved_tensors
    needs_x, needs_weight, needs_bias, needs_residual = ctx.needs_input_grad[:4]
    grad_x = grad_weight = grad_bias = None
    if needs_x or needs_weight or needs_bias:
        made = _norm_backward(
            grad, x, weight, bias, mean, rstd, ctx.activation, ctx.negative_slope, needs_x, needs_weight, needs_bias
        )
        grad_x = made[0] if needs_x else None
        grad_weight = _like(made[1], weight) if needs_weight else None
        grad_bias = _like(made[2], bias) if needs_bias else None
    return grad_x, grad_weight, grad_bias, grad if needs_residual else None, None, None, None


def _like(grad: Tensor, parameter: Tensor) -> Tensor:
    return grad.sum(0) if parameter.dim() == 1 else grad


torch.library.register_autograd("fastgan::instance_norm", _backward, setup_context=_setup)


def instance_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    activation: str | None,
    negative_slope: float,
    eps: float,
) -> Tensor:
    weight, bias = (None if given is None else given.float().contiguous() for given in (weight, bias))
    residual = None if residual is None else residual.to(x.dtype)
    return _norm(x, weight, bias, residual, activation, negative_slope, eps)[0]
