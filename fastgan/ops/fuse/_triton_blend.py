"""Additive and convex fusion in Triton: one launch forward, one backward and the sum of its partial sums for alpha.

Bytes that must move per value, of e bytes each: 3 e forward; backward 3 e (the gradient in, two out), 5 e with alpha's
gradient (additive 3 e: the content's gradient is the result's, and the style is the only input read).
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastgan.ops import _triton
from fastgan.ops._triton_tiles import addresses, arrange, pointer, row_and_column, tile
from fastgan.ops.fuse import native
from fastgan.utils.format import dtype_name

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
    _triton.config(BLOCK_C=4, BLOCK_P=512, num_warps=4),
)
#: Square tiles: every tensor can be read along its own memory.
MIXED = (
    _triton.config(BLOCK_C=32, BLOCK_P=64, num_warps=4),
    _triton.config(BLOCK_C=32, BLOCK_P=32, num_warps=4),
    _triton.config(BLOCK_C=64, BLOCK_P=64, num_warps=8),
    _triton.config(BLOCK_C=16, BLOCK_P=64, num_warps=4),
)


def common_format(*tensors: Tensor) -> str:
    """The common memory format of tensors of one shape: "nchw", "channels_last" or "mixed"."""
    formats = set()
    for tensor in tensors:
        _, c, h, w = tensor.shape
        _, channel, row, pixel = tensor.stride()
        pixel = row if w == 1 else pixel
        # Tensors with one channel or one pixel, or expanded over either, have both formats.
        if c > 1 and h * w > 1 and channel and pixel:
            formats.add("channels_last" if channel < pixel else "nchw")
    return "mixed" if len(formats) > 1 else next(iter(formats), "nchw")


def tiles(memory_format: str) -> tuple[_triton.Config, ...]:
    return {"nchw": NCHW, "channels_last": CHANNELS_LAST, "mixed": MIXED}[memory_format]


def key(memory_format: str, x: Tensor, *others: Any) -> tuple[object, ...]:
    _, c, h, w = x.shape
    sizes = _triton.next_power_of_2(c), _triton.next_power_of_2(h * w)
    return memory_format, *sizes, dtype_name(x.dtype), *others


@triton.jit
def alpha_of(alpha, number, image, HAS_ALPHA: tl.constexpr):
    return tl.load(alpha + image) if HAS_ALPHA else number


@triton.jit
def fuse_blend_fwd_kernel(
    content,
    style,
    alpha,
    out,
    content_n,
    content_c,
    content_h,
    content_w,
    style_n,
    style_c,
    style_h,
    style_w,
    out_n,
    out_c,
    out_h,
    out_w,
    channels,
    pixels,
    width,
    number,
    CONVEX: tl.constexpr,
    HAS_ALPHA: tl.constexpr,
    MERGED: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    row, column = row_and_column(pixels, BLOCK_P)
    image, c, p = tile(row, column, channels, BLOCK_C, BLOCK_P)
    inside = (c < channels)[:, None] & (p < pixels)[None, :]
    of = addresses(content, image, c, p, width, content_n, content_c, content_h, content_w, MERGED)
    y = tl.load(of, mask=inside, other=0.0).to(tl.float32)
    of = addresses(style, image, c, p, width, style_n, style_c, style_h, style_w, MERGED)
    s = tl.load(of, mask=inside, other=0.0).to(tl.float32)
    a = alpha_of(alpha, number, image, HAS_ALPHA)
    if CONVEX:
        y = a * y + (1 - a) * s
    else:
        y += a * s
    to = addresses(out, image, c, p, width, out_n, out_c, out_h, out_w, MERGED)
    tl.store(to, y.to(out.dtype.element_ty), mask=inside)


@triton.jit
def fuse_blend_bwd_kernel(
    grad,
    content,
    style,
    alpha,
    grad_content,
    grad_style,
    partial,
    grad_n,
    grad_c,
    grad_h,
    grad_w,
    content_n,
    content_c,
    content_h,
    content_w,
    style_n,
    style_c,
    style_h,
    style_w,
    to_content_n,
    to_content_c,
    to_content_h,
    to_content_w,
    to_style_n,
    to_style_c,
    to_style_h,
    to_style_w,
    channels,
    pixels,
    width,
    number,
    CONVEX: tl.constexpr,
    HAS_ALPHA: tl.constexpr,
    NEEDS_CONTENT: tl.constexpr,
    NEEDS_STYLE: tl.constexpr,
    NEEDS_ALPHA: tl.constexpr,
    MERGED: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    row, column = row_and_column(pixels, BLOCK_P)
    image, c, p = tile(row, column, channels, BLOCK_C, BLOCK_P)
    inside = (c < channels)[:, None] & (p < pixels)[None, :]
    of = addresses(grad, image, c, p, width, grad_n, grad_c, grad_h, grad_w, MERGED)
    g = tl.load(of, mask=inside, other=0.0).to(tl.float32)
    a = alpha_of(alpha, number, image, HAS_ALPHA)
    if NEEDS_CONTENT:
        down = g
        if CONVEX:
            down = g * a
        to = addresses(grad_content, image, c, p, width, to_content_n, to_content_c, to_content_h, to_content_w, MERGED)
        tl.store(to, down.to(grad_content.dtype.element_ty), mask=inside)
    if NEEDS_STYLE:
        share = a
        if CONVEX:
            share = 1 - a
        to = addresses(grad_style, image, c, p, width, to_style_n, to_style_c, to_style_h, to_style_w, MERGED)
        tl.store(to, (g * share).to(grad_style.dtype.element_ty), mask=inside)
    if NEEDS_ALPHA:
        of = addresses(style, image, c, p, width, style_n, style_c, style_h, style_w, MERGED)
        by = tl.load(of, mask=inside, other=0.0).to(tl.float32)
        if CONVEX:
            of = addresses(content, image, c, p, width, content_n, content_c, content_h, content_w, MERGED)
            by = tl.load(of, mask=inside, other=0.0).to(tl.float32) - by
        # Partial sums of an image are contiguous.
        index = row * tl.cdiv(pixels, BLOCK_P) + column
        tl.store(partial + index, tl.sum(tl.sum(g * by, axis=1), axis=0))


def forward(content: Tensor, style: Tensor, alpha: Tensor | None, mode: str, number: float) -> Tensor:
    out = native.empty_output(content)
    layout = arrange(content, style, out)
    memory_format = common_format(content, style, out)
    n, c, h, w = content.shape
    _triton.launch(
        fuse_blend_fwd_kernel,
        lambda config: (n * _triton.cdiv(c, config["BLOCK_C"]) * _triton.cdiv(h * w, config["BLOCK_P"]),),
        (content, style, pointer(alpha, content), out, *layout.strides, c, h * w, w, number),
        choices=tiles(memory_format),
        key=key(memory_format, content, style.dtype),
        CONVEX=mode == "convex",
        HAS_ALPHA=alpha is not None,
        MERGED=layout.merged,
    )
    return out


def backward(
    grad: Tensor,
    content: Tensor | None,
    style: Tensor | None,
    alpha: Tensor | None,
    mode: str,
    number: float,
    grads: tuple[Tensor, Tensor, Tensor],
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    grad_content, grad_style, grad_alpha = grads
    inputs = (content if mode == "convex" and needs[2] else None, style if needs[2] else None)
    outputs = (grad_content if needs[0] else None, grad_style if needs[1] else None)
    operands = [grad, *(grad if tensor is None else tensor for tensor in (*inputs, *outputs))]
    layout, memory_format = arrange(*operands), common_format(*operands)
    n, c, h, w = grad.shape
    choices = tiles(memory_format)

    def programs(config: _triton.Config) -> int:
        return n * _triton.cdiv(c, config["BLOCK_C"]) * _triton.cdiv(h * w, config["BLOCK_P"])

    partial = grad.new_empty(max(map(programs, choices)) if needs[2] else 0, dtype=torch.float32)
    launched = [0]

    def grid(config: _triton.Config) -> tuple[int]:
        launched[0] = programs(config)
        return (launched[0],)

    _triton.launch(
        fuse_blend_bwd_kernel,
        grid,
        (
            grad,
            *operands[1:3],
            pointer(alpha, grad),
            *operands[3:],
            partial,
            *layout.strides,
            c,
            h * w,
            w,
            number,
        ),
        choices=choices,
        key=key(memory_format, grad, grad_style.dtype, *needs),
        CONVEX=mode == "convex",
        HAS_ALPHA=alpha is not None,
        NEEDS_CONTENT=needs[0],
        NEEDS_STYLE=needs[1],
        NEEDS_ALPHA=needs[2],
        MERGED=layout.merged,
    )
    return grad_content, grad_style, partial[: launched[0]].view(n, launched[0] // n).sum(1) if needs[2] else grad_alpha
