"""Fusion by the extension."""

import torch
from torch import Tensor

from fastgan.ops import _native

#: In the order of `FuseMode` in csrc/fuse/fuse.h.
MODES = {"additive": 0, "convex": 1, "adain": 2}


def empty_output(content: Tensor) -> Tensor:
    """An uninitialized result, in its contractual memory format."""
    last = content.is_contiguous(memory_format=torch.channels_last) and not content.is_contiguous()
    return _native.empty_like(content, layout=torch.channels_last if last else torch.contiguous_format)


def empty_moments(content: Tensor, mode: str) -> Tensor:
    """An uninitialized tensor for mean and 1 / sigma of content and style; no elements for modes without them."""
    return content.new_empty((4, *content.shape[:2]) if mode == "adain" else 0, dtype=torch.float32)


def empty_gradients(
    grad: Tensor, content: Tensor | None, style: Tensor | None, dtype: torch.dtype, needs: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """An uninitialized tensor for each gradient; no elements where it is not needed."""
    needs_content, needs_style, needs_alpha = needs
    return (
        _native.empty_like(grad if content is None else content, needs_content),
        _native.empty_like(grad if style is None else style, needs_style, dtype),
        grad.new_empty(grad.shape[0] if needs_alpha else 0, dtype=torch.float32),
    )


def forward(content: Tensor, style: Tensor, alpha: Tensor | None, mode: str, number: float) -> tuple[Tensor, Tensor]:
    """The result, and for AdaIN (4, N, C) float32: the mean and 1 / sigma of every plane of content and style."""
    _native.check(content)
    _check_style(style, content, mode)
    _native.check_numbers("alpha", alpha, content, content.shape[:1])
    out, moments = empty_output(content), empty_moments(content, mode)
    _native.call(
        "fuse_forward",
        content.device,
        _native.tensor_arg(content),
        tuple(content.shape),
        _native.tensor_arg(style),
        tuple(style.shape),
        _native.float32_ptr(alpha),
        number,
        MODES[mode],
        _native.tensor_arg(out),
        _native.float32_ptr(moments),
    )
    return out, moments


def backward(
    grad: Tensor,
    content: Tensor | None,
    style: Tensor | None,
    alpha: Tensor | None,
    moments: Tensor,
    mode: str,
    number: float,
    style_dtype: torch.dtype,
    needs_content: bool,
    needs_style: bool,
    needs_alpha: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of content, style and alpha; empty where not needed.

    AdaIN needs `content`, and `style` for its gradient. The other modes need `style` for the gradient of alpha, and
    convex also `content`.
    """
    _native.check(grad, *([] if content is None else [content]))
    if style is not None:
        _check_style(style, grad, mode)
    if mode == "adain":
        missing = content is None or (style is None and needs_style)
        _native.check_numbers("moments", moments, grad, (4, *grad.shape[:2]))
    else:
        missing = needs_alpha and (style is None or (content is None and mode == "convex"))
    if missing:
        raise ValueError(f"{mode} has no such gradient without its inputs")
    if style_dtype not in _native.DTYPES[grad.device.type]:
        raise ValueError(f"expected a style of float32 or bfloat16, got {style_dtype}")
    _native.check_numbers("alpha", alpha, grad, grad.shape[:1])
    needs = (needs_content, needs_style, needs_alpha)
    grad_content, grad_style, grad_alpha = empty_gradients(grad, content, style, style_dtype, needs)
    _native.call(
        "fuse_backward",
        grad.device,
        _native.tensor_arg(grad),
        _native.tensor_arg(content),
        tuple(grad.shape),
        _native.tensor_arg(style),
        tuple(grad.shape if style is None else style.shape),
        _native.float32_ptr(alpha),
        number,
        MODES[mode],
        _native.float32_ptr(moments.contiguous()),
        _native.tensor_arg(grad_content if needs_content else None),
        _native.tensor_arg(grad_style if needs_style else None),
        _native.float32_ptr(grad_alpha if needs_alpha else None),
    )
    return grad_content, grad_style, grad_alpha


def _check_style(style: Tensor, like: Tensor, mode: str) -> None:
    """Raises ValueError unless a kernel can read it beside a tensor of the content's shape."""
    _native.check(style)
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}")
    fits = style.shape[:2] == like.shape[:2] if mode == "adain" else style.shape == like.shape
    if not fits or style.device != like.device:
        raise ValueError(
            f"style does not fit: {tuple(style.shape)} on {style.device} with {tuple(like.shape)} on {like.device}"
        )
