"""torch.ops.fastgan.fuse and triton_fuse, with the gradients of all inputs, by the extension and by Triton."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastgan.ops import _triton
from fastgan.ops._library import define
from fastgan.ops.fuse import native


def _register(
    name: str, forward_impl: Callable[..., Any], backward_impl: Callable[..., Any], devices: tuple[str, ...]
) -> Callable[..., Tensor]:
    fuse = define(
        f"{name}(Tensor content, Tensor style, Tensor? alpha, str mode, float number) -> (Tensor, Tensor)",
        forward_impl,
        devices,
    )
    fuse_backward = define(
        f"{name}_backward(Tensor grad, Tensor? content, Tensor? style, Tensor? alpha, Tensor moments, str mode,"
        " float number, ScalarType style_dtype, bool needs_content, bool needs_style, bool needs_alpha)"
        " -> (Tensor, Tensor, Tensor)",
        backward_impl,
        devices,
    )

    @torch.library.register_fake(f"fastgan::{name}")
    def _(content: Tensor, style: Tensor, alpha: Tensor | None, mode: str, number: float) -> tuple[Tensor, Tensor]:
        return native.empty_output(content), native.empty_moments(content, mode)

    @torch.library.register_fake(f"fastgan::{name}_backward")
    def _(grad: Tensor, content: Tensor | None, style: Tensor | None, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
        *_, dtype, needs_content, needs_style, needs_alpha = others
        return native.empty_gradients(grad, content, style, dtype, (needs_content, needs_style, needs_alpha))

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        content, style, alpha, ctx.mode, ctx.number = inputs
        _, moments = output
        ctx.mark_non_differentiable(moments)
        ctx.style_dtype = style.dtype
        _, needs_style, needs_alpha = ctx.needs_input_grad[:3]
        # Saves only the tensors that a gradient needs.
        keeps_content = ctx.mode == "adain" or (needs_alpha and ctx.mode == "convex")
        keeps_style = needs_style if ctx.mode == "adain" else needs_alpha
        ctx.save_for_backward(content if keeps_content else None, style if keeps_style else None, alpha, moments)

    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        needs_content, needs_style, needs_alpha = ctx.needs_input_grad[:3]
        passes_through = needs_content and ctx.mode == "additive"
        grad_content = grad if passes_through else None
        grad_style = grad_alpha = None
        if needs_style or needs_alpha or (needs_content and not passes_through):
            needs = (needs_content and not passes_through, needs_style, needs_alpha)
            grads = fuse_backward(grad, *ctx.saved_tensors, ctx.mode, ctx.number, ctx.style_dtype, *needs)
            grad_content = grads[0] if needs[0] else grad_content
            grad_style = grads[1] if needs_style else None
            grad_alpha = grads[2] if needs_alpha else None
        return grad_content, grad_style, grad_alpha, None, None

    torch.library.register_autograd(f"fastgan::{name}", backward, setup_context=setup_context)

    def call(content: Tensor, style: Tensor, mode: str, alpha: float | Tensor) -> Tensor:
        if isinstance(alpha, Tensor):
            return fuse(content, style, alpha.float().contiguous(), mode, 0.0)[0]
        return fuse(content, style, None, mode, float(alpha))[0]

    return call


native_fuse = _register("fuse", native.forward, native.backward, ("CPU",))
triton_fuse = _register(
    "triton_fuse", _triton.lazy("fuse", "forward"), _triton.lazy("fuse", "backward"), ("CPU", "CUDA")
)
