"""torch.ops.fastgan.bias_act and triton_bias_act, differentiable to any order, by the extension and by Triton."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastgan.ops import _native, _triton
from fastgan.ops._library import define
from fastgan.ops.bias_act import native


def _register(name: str, forward_impl: Callable[..., Any], backward_impl: Callable[..., Any]) -> Callable[..., Tensor]:
    bias_act = define(
        f"{name}(Tensor x, Tensor? bias, str? activation, float negative_slope, float gain, float? clamp) -> Tensor",
        forward_impl,
    )
    bias_act_backward = define(
        f"{name}_backward(Tensor grad, Tensor x, Tensor? bias, str? activation, float negative_slope, float gain,"
        " float? clamp, bool needs_x, bool needs_bias) -> (Tensor, Tensor)",
        backward_impl,
        differentiable=True,
    )

    @torch.library.register_fake(f"fastgan::{name}")
    def _(x: Tensor, bias: Tensor | None, *options: Any) -> Tensor:
        return _native.empty_like(x)

    @torch.library.register_fake(f"fastgan::{name}_backward")
    def _(grad: Tensor, x: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
        *_, needs_x, needs_bias = others
        grad_bias = x.new_empty(x.shape[1] if needs_bias else 0, dtype=torch.float32)
        return _native.empty_like(x, needs_x), grad_bias

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        x, bias, *ctx.options = inputs
        activation, _, gain, clamp = ctx.options
        if activation is None and clamp is None:
            x, bias = None, None  # the derivative is the gain
        elif activation != "tanh" and gain >= 1 and clamp is None and x.dtype != torch.float16:
            # The output has the sign of what was activated (except where it rounds to 0, as a smaller gain or float16
            # allows), and is kept alive as the input of the next layer; x is not.
            x, bias = output, None
        ctx.save_for_backward(x, bias)

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        needs_x, needs_bias = ctx.needs_input_grad[:2]
        x, bias = ctx.saved_tensors
        grad_x, grad_bias = bias_act_backward(grad, grad if x is None else x, bias, *ctx.options, needs_x, needs_bias)
        return grad_x if needs_x else None, grad_bias if needs_bias else None, None, None, None, None

    def setup_backward_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        grad, x, bias, *options, _, _ = inputs
        ctx.options = options
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(grad, x, bias)

    torch.library.register_autograd(f"fastgan::{name}", backward, setup_context=setup_context)
    torch.library.register_autograd(
        f"fastgan::{name}_backward", partial(_double_backward, bias_act_backward), setup_context=setup_backward_context
    )

    def call(
        x: Tensor, bias: Tensor | None, activation: str | None, negative_slope: float, gain: float, clamp: float | None
    ) -> Tensor:
        bias = None if bias is None else bias.float().contiguous()
        return bias_act(x, bias, activation, negative_slope, gain, clamp)

    return call


def _double_backward(
    bias_act_backward: Callable[..., Any], ctx: Any, grad_grad_x: Tensor | None, grad_grad_bias: Tensor | None
) -> tuple[Tensor | None, ...]:
    """The backward is linear in `grad` with a diagonal factor, which is therefore its own transpose."""
    grad, x, bias = ctx.saved_tensors
    activation, _, gain, clamp = ctx.options
    needs_grad, needs_x, needs_bias = ctx.needs_input_grad[:3]
    bias_direction = None if grad_grad_bias is None else grad_grad_bias.to(x.dtype)[:, None, None]
    directions = [term for term in (grad_grad_x, bias_direction) if term is not None]
    if not directions:
        return (None,) * 9
    direction = sum(directions[1:], directions[0]).expand_as(x)
    grad_grad = grad_x = grad_bias = None
    if needs_grad:
        grad_grad, _ = bias_act_backward(direction, x, bias, *ctx.options, True, False)
    if activation == "tanh" and (needs_x or needs_bias):
        # tanh'' = -2 tanh tanh'; every other activation is piecewise linear.
        x32 = x.float() if bias is None else x.float() + bias.float()[:, None, None]
        y = x32.tanh()
        curvature = -2 * gain * y * (1 - y * y) * grad.float() * direction.float()
        if clamp is not None:
            curvature = curvature.where((y * gain).abs() < clamp, 0)
        grad_x = curvature.to(x.dtype) if needs_x else None
        grad_bias = curvature.sum((0, 2, 3)) if needs_bias else None
    return grad_grad, grad_x, grad_bias, None, None, None, None, None, None


native_bias_act = _register("bias_act", native.forward, native.backward)
triton_bias_act = _register(
    "triton_bias_act", _triton.lazy("bias_act", "forward"), _triton.lazy("bias_act", "backward")
)
