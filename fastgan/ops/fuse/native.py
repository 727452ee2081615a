"""Fusion by the extension."""

import torch
from torch import Tensor

from fastgan.ops import _native

#: The order is that of `FuseMode` in csrc/fuse.h.
MODES = {"additive": 0, "convex": 1, "adain": 2}


def room(content: Tensor) -> Tensor:
    """Room for the result, in the memory format that it has by contract."""
    last = content.is_contiguous(memory_format=torch.channels_last) and not content.is_contiguous()
    return _native.room_like(content, layout=torch.channels_last if last else torch.contiguous_format)


def moments_room(content: Tensor, mode: str) -> Tensor:
    """Room for the mean and 1 / sigma of the content and of the style; empty where there are none."""
    return content.new_empty((4, *content.shape[:2]) if mode == "adain" else 0, dtype=torch.float32)


def gradient_rooms(
    grad: Tensor, content: Tensor | None, style: Tensor | None, dtype: torch.dtype, needs: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Room for each gradient, empty where it is not needed; like `grad` what is made of it alone."""
    needs_content, needs_style, needs_alpha = needs
    return (
        _native.room_like(grad if content is None else content, needs_content),
        _native.room_like(grad if style is None else style, needs_style, dtype),
        grad.new_empty(grad.shape[0] if needs_alpha else 0, dtype=torch.float32),
    )


def forward(content: Tensor, style: Tensor, alpha: Tensor | None, mode: str, number: float) -> tuple[Tensor, Tensor]:
    """The result, and for AdaIN (4, N, C) float32: the mean and 1 / sigma of every plane of content and style."""
    _native.check(content)
    _check_style(style, content, mode)
    _native.check_numbers("alpha", alpha, content, content.shape[:1])
    out, moments = room(content), moments_room(content, mode)
    _native.call(
        "fuse_forward",
        content.device,
        _native.view(content),
        tuple(content.shape),
        _native.view(style),
        tuple(style.shape),
        _native.floats(alpha),
        number,
        MODES[mode],
        _native.view(out),
        _native.floats(moments),
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

    AdaIN needs `content`, and `style` for its gradient. The others need `style` for the gradient of alpha, convex
    `content` too, and are without it for the rest.
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
    grad_content, grad_style, grad_alpha = gradient_rooms(grad, content, style, style_dtype, needs)
    _native.call(
        "fuse_backward",
        grad.device,
        _native.view(grad),
        _native.view(content),
        tuple(grad.shape),
        _native.view(style),
        tuple(grad.shape if style is None else style.shape),
        _native.floats(alpha),
        number,
        MODES[mode],
        _native.floats(moments.contiguous()),
        _native.view(grad_content if needs_content else None),
        _native.view(grad_style if needs_style else None),
        _native.floats(grad_alpha if needs_alpha else None),
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
