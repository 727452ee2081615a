"""bias_act in Triton: one launch forward; backward one, and the sum of its partial bias gradients.

Bytes that must move per value, of e bytes each: 2 e forward, 3 e backward (x and the gradient in, its gradient out).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastgan.ops import _native, _triton
from fastgan.ops._triton_tiles import (
    ACTIVATIONS,
    activate,
    activate_backward,
    addresses,
    arrange,
    pointer,
    size_key,
    tile,
)

NCHW = (
    _triton.config(BLOCK_C=1, BLOCK_P=2048, num_warps=4),
    _triton.config(BLOCK_C=1, BLOCK_P=1024, num_warps=4),
    _triton.config(BLOCK_C=1, BLOCK_P=4096, num_warps=8),
    _triton.config(BLOCK_C=4, BLOCK_P=256, num_warps=4),
)
CHANNELS_LAST = (
    _triton.config(BLOCK_C=64, BLOCK_P=32, num_warps=4),
    _triton.config(BLOCK_C=32, BLOCK_P=32, num_warps=4),
    _triton.config(BLOCK_C=128, BLOCK_P=16, num_warps=4),
    _triton.config(BLOCK_C=4, BLOCK_P=256, num_warps=4),
)


@triton.jit
def bias_act_fwd_kernel(
    x,
    bias,
    out,
    x_n,
    x_c,
    x_h,
    x_w,
    out_n,
    out_c,
    out_h,
    out_w,
    channels,
    pixels,
    width,
    negative_slope,
    gain,
    clamp,
    ACTIVATION: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_CLAMP: tl.constexpr,
    MERGED: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    across = tl.cdiv(pixels, BLOCK_P)
    image, c, p = tile(tl.program_id(0) // across, tl.program_id(0) % across, channels, BLOCK_C, BLOCK_P)
    inside = (c < channels)[:, None] & (p < pixels)[None, :]
    at = addresses(x, image, c, p, width, x_n, x_c, x_h, x_w, MERGED)
    y = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    if HAS_BIAS:
        y += tl.load(bias + c, mask=c < channels, other=0.0)[:, None]
    y = activate(y, negative_slope, ACTIVATION) * gain
    if HAS_CLAMP:
        y = tl.where(y > clamp, clamp, tl.where(y < -clamp, -clamp, y))
    to = addresses(out, image, c, p, width, out_n, out_c, out_h, out_w, MERGED)
    tl.store(to, y.to(out.dtype.element_ty), mask=inside)


@triton.jit
def bias_act_bwd_kernel(
    grad,
    x,
    bias,
    grad_x,
    partial,
    grad_n,
    grad_c,
    grad_h,
    grad_w,
    x_n,
    x_c,
    x_h,
    x_w,
    to_n,
    to_c,
    to_h,
    to_w,
    channels,
    pixels,
    width,
    negative_slope,
    gain,
    clamp,
    ACTIVATION: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_CLAMP: tl.constexpr,
    NEEDS_X: tl.constexpr,
    NEEDS_BIAS: tl.constexpr,
    MERGED: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    across = tl.cdiv(pixels, BLOCK_P)
    image, c, p = tile(tl.program_id(0) // across, tl.program_id(0) % across, channels, BLOCK_C, BLOCK_P)
    inside = (c < channels)[:, None] & (p < pixels)[None, :]
    at = addresses(x, image, c, p, width, x_n, x_c, x_h, x_w, MERGED)
    y = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    if HAS_BIAS:
        y += tl.load(bias + c, mask=c < channels, other=0.0)[:, None]
    grad_at = addresses(grad, image, c, p, width, grad_n, grad_c, grad_h, grad_w, MERGED)
    g = tl.load(grad_at, mask=inside, other=0.0).to(tl.float32) * gain
    if HAS_CLAMP:
        g = tl.where(tl.abs(activate(y, negative_slope, ACTIVATION) * gain) >= clamp, 0.0, g)
    g = activate_backward(g, y, negative_slope, ACTIVATION)
    if NEEDS_X:
        to = addresses(grad_x, image, c, p, width, to_n, to_c, to_h, to_w, MERGED)
        tl.store(to, g.to(grad_x.dtype.element_ty), mask=inside)
    if NEEDS_BIAS:
        row = image * across + tl.program_id(0) % across
        tl.store(partial + row * channels + c, tl.sum(g, axis=1), mask=c < channels)


def forward(
    x: Tensor, bias: Tensor | None, activation: str | None, negative_slope: float, gain: float, clamp: float | None
) -> Tensor:
    """As `native.forward`."""
    out = torch.empty_like(x)
    layout = arrange(x, out)
    n, c, h, w = x.shape
    _triton.launch(
        bias_act_fwd_kernel,
        lambda config: (n * _triton.cdiv(c, config["BLOCK_C"]) * _triton.cdiv(h * w, config["BLOCK_P"]),),
        (x, pointer(bias, x), out, *layout.strides, c, h * w, w, negative_slope, gain, clamp or 0.0),
        choices=CHANNELS_LAST if layout.channels_last else NCHW,
        key=size_key(x, layout.channels_last),
        ACTIVATION=ACTIVATIONS[activation],
        HAS_BIAS=bias is not None,
        HAS_CLAMP=clamp is not None,
        MERGED=layout.merged,
    )
    return out


def backward(
    grad: Tensor,
    x: Tensor,
    bias: Tensor | None,
    activation: str | None,
    negative_slope: float,
    gain: float,
    clamp: float | None,
    needs_x: bool,
    needs_bias: bool,
) -> tuple[Tensor, Tensor]:
    """As `native.backward`."""
    grad_x = _native.empty_like(x, needs_x)
    layout = arrange(x, grad, *([grad_x] if needs_x else [x]))
    strides = (*layout.strides[4:8], *layout.strides[:4], *layout.strides[8:])
    n, c, h, w = x.shape
    choices = CHANNELS_LAST if layout.channels_last else NCHW
    partial = x.new_empty(
        (n * max(_triton.cdiv(h * w, config["BLOCK_P"]) for config in choices), c), dtype=torch.float32
    )
    rows = [0]

    def grid(config: _triton.Config) -> tuple[int]:
        across = _triton.cdiv(h * w, config["BLOCK_P"])
        rows[0] = n * across
        return (n * _triton.cdiv(c, config["BLOCK_C"]) * across,)

    _triton.launch(
        bias_act_bwd_kernel,
        grid,
        (
            grad,
            x,
            pointer(bias, x),
            pointer(grad_x if needs_x else None, x),
            partial,
            *strides,
            c,
            h * w,
            w,
            negative_slope,
            gain,
            clamp or 0.0,
        ),
        choices=choices,
        key=size_key(x, layout.channels_last),
        ACTIVATION=ACTIVATIONS[activation],
        HAS_BIAS=bias is not None,
        HAS_CLAMP=clamp is not None,
        NEEDS_X=needs_x,
        NEEDS_BIAS=needs_bias,
        MERGED=layout.merged,
    )
    grad_bias = partial[: rows[0]].sum(0) if needs_bias else x.new_empty(0, dtype=torch.float32)
    return grad_x, grad_bias
