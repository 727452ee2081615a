"""torch.ops.fastgan.instance_norm and triton_instance_norm, with the gradients of all inputs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastgan.ops import _native, _triton
from fastgan.ops._library import define
from fastgan.ops.instance_norm import native


def _register(name: str, forward_impl: Callable[..., Any], backward_impl: Callable[..., Any]) -> Callable[..., Tensor]:
    norm = define(
        f"{name}(Tensor x, Tensor? weight, Tensor? bias, Tensor? residual, str? activation, float negative_slope,"
        " float eps) -> (Tensor, Tensor, Tensor)",
        forward_impl,
    )
    norm_backward = define(
        f"{name}_backward(Tensor grad, Tensor x, Tensor? weight, Tensor? bias, Tensor mean, Tensor rstd,"
        " str? activation, float negative_slope, bool needs_x, bool needs_weight, bool needs_bias)"
        " -> (Tensor, Tensor, Tensor)",
        backward_impl,
    )

    @torch.library.register_fake(f"fastgan::{name}")
    def _(x: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
        mean, rstd = (x.new_empty(x.shape[:2], dtype=torch.float32) for _ in range(2))
        return _native.empty_like(x), mean, rstd

    @torch.library.register_fake(f"fastgan::{name}_backward")
    def _(grad: Tensor, x: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
        *_, needs_x, needs_weight, needs_bias = others
        grad_weight, grad_bias = (
            x.new_empty(x.shape[:2] if needed else 0, dtype=torch.float32) for needed in (needs_weight, needs_bias)
        )
        return _native.empty_like(x, needs_x), grad_weight, grad_bias

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        x, weight, bias, _, ctx.activation, ctx.negative_slope, _ = inputs
        _, mean, rstd = output
        ctx.mark_non_differentiable(mean, rstd)
        ctx.save_for_backward(x, weight, bias, mean, rstd)

    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, rstd = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, needs_residual = ctx.needs_input_grad[:4]
        grad_x = grad_weight = grad_bias = None
        if needs_x or needs_weight or needs_bias:
            grads = norm_backward(
                grad, x, weight, bias, mean, rstd, ctx.activation, ctx.negative_slope, needs_x, needs_weight, needs_bias
            )
            grad_x = grads[0] if needs_x else None
            grad_weight = _like(grads[1], weight) if needs_weight else None
            grad_bias = _like(grads[2], bias) if needs_bias else None
        return grad_x, grad_weight, grad_bias, grad if needs_residual else None, None, None, None

    torch.library.register_autograd(f"fastgan::{name}", backward, setup_context=setup_context)

    def call(
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        residual: Tensor | None,
        activation: str | None,
        negative_slope: float,
        eps: float,
    ) -> Tensor:
        weight, bias = (None if parameter is None else parameter.float().contiguous() for parameter in (weight, bias))
        residual = None if residual is None else residual.to(x.dtype)
        return norm(x, weight, bias, residual, activation, negative_slope, eps)[0]

    return call


def _like(grad: Tensor, parameter: Tensor) -> Tensor:
    return grad.sum(0) if parameter.dim() == 1 else grad


native_instance_norm = _register("instance_norm", native.forward, native.backward)
triton_instance_norm = _register(
    "triton_instance_norm", _triton.lazy("instance_norm", "forward"), _triton.lazy("instance_norm", "backward")
)
