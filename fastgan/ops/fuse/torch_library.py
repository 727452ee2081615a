"""torch.ops.fastgan.fuse and triton_fuse, with the gradients of all inputs, by the extension and by Triton."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastgan.ops import _triton
from fastgan.ops._library import define
from fastgan.ops.fuse import native


def _registered(
    name: str, forward: Callable[..., Any], backward: Callable[..., Any], devices: tuple[str, ...]
) -> Callable[..., Tensor]:
    fuse = define(
        f"{name}(Tensor content, Tensor style, Tensor? alpha, str mode, float number) -> (Tensor, Tensor)",
        forward,
        devices,
    )
    fuse_backward = define(
        f"{name}_backward(Tensor grad, Tensor? content, Tensor? style, Tensor? alpha, Tensor moments, str mode,"
        " float number, ScalarType style_dtype, bool needs_content, bool needs_style, bool needs_alpha)"
        " -> (Tensor, Tensor, Tensor)",
        backward,
        devices,
    )

    @torch.library.register_fake(f"fastgan::{name}")
    def _(content: Tensor, style: Tensor, alpha: Tensor | None, mode: str, number: float) -> tuple[Tensor, Tensor]:
        return native.room(content), native.moments_room(content, mode)

    @torch.library.register_fake(f"fastgan::{name}_backward")
    def _(grad: Tensor, content: Tensor | None, style: Tensor | None, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
        *_, dtype, needs_content, needs_style, needs_alpha = others
        return native.gradient_rooms(grad, content, style, dtype, (needs_content, needs_style, needs_alpha))

    def setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        content, style, alpha, ctx.mode, ctx.number = inputs
        _, moments = output
        ctx.mark_non_differentiable(moments)
        ctx.style_dtype = style.dtype
        _, needs_style, needs_alpha = ctx.needs_input_grad[:3]
        # Nothing is kept alive that no gradient is made of.
        keeps_content = ctx.mode == "adain" or (needs_alpha and ctx.mode == "convex")
        keeps_style = needs_style if ctx.mode == "adain" else needs_alpha
        ctx.save_for_backward(content if keeps_content else None, style if keeps_style else None, alpha, moments)

    def pull_back(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        needs_content, needs_style, needs_alpha = ctx.needs_input_grad[:3]
        as_it_is = needs_content and ctx.mode == "additive"
        grad_content = grad if as_it_is else None
        grad_style = grad_alpha = None
        if needs_style or needs_alpha or (needs_content and not as_it_is):
            needs = (needs_content and not as_it_is, needs_style, needs_alpha)
            made = fuse_backward(grad, *ctx.saved_tensors, ctx.mode, ctx.number, ctx.style_dtype, *needs)
            grad_content = made[0] if needs[0] else grad_content
            grad_style = made[1] if needs_style else None
            grad_alpha = made[2] if needs_alpha else None
        return grad_content, grad_style, grad_alpha, None, None

    torch.library.register_autograd(f"fastgan::{name}", pull_back, setup_context=setup)

    def call(content: Tensor, style: Tensor, mode: str, alpha: float | Tensor) -> Tensor:
        if isinstance(alpha, Tensor):
            return fuse(content, style, alpha.float().contiguous(), mode, 0.0)[0]
        return fuse(content, style, None, mode, float(alpha))[0]

    return call


native_fuse = _registered("fuse", native.forward, native.backward, ("CPU",))
triton_fuse = _registered(
    "triton_fuse", _triton.lazy("fuse", "forward"), _triton.lazy("fuse", "backward"), ("CPU", "CUDA")
)
