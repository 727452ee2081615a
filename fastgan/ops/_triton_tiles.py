"""Shared code of Triton kernels over (N, C, H, W) tensors: tiles of channels by pixels, at any strides.

A tile is (BLOCK_C, BLOCK_P), of one image. One body serves NCHW (one channel, many pixels) and channels_last (many
channels, few pixels): a stride of 1 is a constant to the compiler, which lays the threads along it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from fastgan.ops import _checks, _triton
from fastgan.utils.format import dtype_name

#: Numbers of the activations in the kernels, by public name.
ACTIVATIONS: dict[str | None, int] = {name: code for code, name in enumerate(_checks.ACTIVATIONS)}
#: Offsets have 64 bits; pixels of a plane are numbered with 32 bits, up to a block beyond the last.
MAX_PIXELS = 2**31 - 2**16

RELU, LEAKY_RELU, TANH = tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)


class TileLayout(NamedTuple):
    """`strides`: of each tensor (n, c, h, w), flat. `merged`: a pixel's offset is its number times the last stride."""

    strides: tuple[int, ...]
    merged: bool
    channels_last: bool


def arrange(*tensors: Tensor) -> TileLayout:
    """The strides of tensors of one shape (N, C, H, W); the first tensor decides the order of threads.

    Raises:
        ValueError: a plane of more than `MAX_PIXELS`.
    """
    _, _, h, w = tensors[0].shape
    check_plane(h, w)
    strides: list[tuple[int, int, int, int]] = []
    for tensor in tensors:
        n, c, row, pixel = tensor.stride()
        # The stride of a dimension of size 1 says nothing.
        if w == 1:
            pixel = row
        if h == 1:
            row = pixel * w
        strides.append((n, c, row, pixel))
    merged = all(row == pixel * w for _, _, row, pixel in strides)
    leading = strides[0]
    return TileLayout(tuple(s for tensor_strides in strides for s in tensor_strides), merged, leading[1] < leading[3])


def check_plane(h: int, w: int) -> None:
    """Raise ValueError for a plane of more than `MAX_PIXELS`."""
    if h * w > MAX_PIXELS:
        raise ValueError(
            f"Triton kernels take planes of up to {MAX_PIXELS} pixels, got {h} x {w}; use backend='reference'"
        )


@triton.jit
def tile(row, column, channels, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr):
    """Image, channels and pixels of a tile: the `column`-th of a row of blocks, of which each image has several."""
    blocks = tl.cdiv(channels, BLOCK_C)
    c = (row % blocks) * BLOCK_C + tl.arange(0, BLOCK_C)
    return (row // blocks).to(tl.int64), c, column * BLOCK_P + tl.arange(0, BLOCK_P)


@triton.jit
def row_and_column(length, BLOCK: tl.constexpr):
    """Row and column in a grid of rows by blocks of `length`, flattened: other grid dimensions end at 65535."""
    rows = tl.num_programs(0) // tl.cdiv(length, BLOCK)
    return tl.program_id(0) % rows, tl.program_id(0) // rows


@triton.jit
def addresses(x, image, c, p, width, x_n, x_c, x_h, x_w, MERGED: tl.constexpr):
    """Addresses of channels `c` by pixels `p`, both by number, of one image."""
    base = (x + image * x_n + c.to(tl.int64) * x_c)[:, None]
    if MERGED:
        return base + (p.to(tl.int64) * x_w)[None, :]
    return base + ((p // width).to(tl.int64) * x_h + (p % width).to(tl.int64) * x_w)[None, :]


@triton.jit
def merged_moments(
    parts, within, of_kind, of_chunk, chunks, chunk_pixels, pixels, HAS_REST: tl.constexpr, BLOCK_M: tl.constexpr
):
    """Moments of planes from those of their chunks: a value near the mean, its difference to the mean, the variance.

    `parts` point to the first chunk of each plane. A chunk has the mean (with HAS_REST in two parts, as above) and the
    sum of squares about it.
    """
    origin = tl.load(parts, mask=within, other=0.0)
    offset = tl.zeros(origin.shape, tl.float32)
    for start in range(0, chunks, BLOCK_M):
        m = start + tl.arange(0, BLOCK_M)
        there = within[:, None] & (m < chunks)[None, :]
        part = parts[:, None] + (m * of_chunk)[None, :]
        size = tl.minimum(pixels - m * chunk_pixels, chunk_pixels).to(tl.float32)[None, :]
        moved = tl.load(part, mask=there, other=0.0) - origin[:, None]
        if HAS_REST:
            moved += tl.load(part + of_kind, mask=there, other=0.0)
        offset += tl.sum(tl.where(there, moved * size, 0.0), axis=1)
    offset = offset / pixels
    squares = tl.zeros(origin.shape, tl.float32)
    for start in range(0, chunks, BLOCK_M):
        m = start + tl.arange(0, BLOCK_M)
        there = within[:, None] & (m < chunks)[None, :]
        part = parts[:, None] + (m * of_chunk)[None, :]
        size = tl.minimum(pixels - m * chunk_pixels, chunk_pixels).to(tl.float32)[None, :]
        moved = tl.load(part, mask=there, other=0.0) - origin[:, None]
        if HAS_REST:
            moved += tl.load(part + of_kind, mask=there, other=0.0)
            part += of_kind
        moved -= offset[:, None]
        inner = tl.load(part + of_kind, mask=there, other=0.0)
        squares += tl.sum(tl.where(there, inner + moved * moved * size, 0.0), axis=1)
    return origin, offset, squares / pixels


@triton.jit
def merged_sums(parts, within, of_kind, of_chunk, chunks, BLOCK_M: tl.constexpr):
    """Three sums of planes from those of their chunks; `parts` as in `merged_moments`."""
    # Reduced after the loop: three reductions within it stop the compiler of Triton 3.6 at 32 channels on 4 warps.
    first_sums = tl.zeros((parts.shape[0], BLOCK_M), tl.float32)
    second_sums = tl.zeros((parts.shape[0], BLOCK_M), tl.float32)
    third_sums = tl.zeros((parts.shape[0], BLOCK_M), tl.float32)
    for start in range(0, chunks, BLOCK_M):
        m = start + tl.arange(0, BLOCK_M)
        there = within[:, None] & (m < chunks)[None, :]
        part = parts[:, None] + (m * of_chunk)[None, :]
        first_sums += tl.load(part, mask=there, other=0.0)
        second_sums += tl.load(part + of_kind, mask=there, other=0.0)
        third_sums += tl.load(part + 2 * of_kind, mask=there, other=0.0)
    return tl.sum(first_sums, axis=1), tl.sum(second_sums, axis=1), tl.sum(third_sums, axis=1)


@triton.jit
def tanh(y):
    # The interpreter has no libdevice.
    e = tl.exp(-2 * tl.abs(y))
    t = (1 - e) / (1 + e)
    return tl.where(y < 0, -t, t)


@triton.jit
def activate(y, negative_slope, ACTIVATION: tl.constexpr):
    # Comparisons that are false for NaN keep it.
    if ACTIVATION == RELU:
        y = tl.where(y < 0, 0.0, y)
    elif ACTIVATION == LEAKY_RELU:
        y = tl.where(y < 0, y * negative_slope, y)
    elif ACTIVATION == TANH:
        y = tanh(y)
    return y


@triton.jit
def activate_backward(g, y, negative_slope, ACTIVATION: tl.constexpr):
    """The gradient before the activation, whose input is `y`, from the gradient `g` after it."""
    if ACTIVATION == RELU:
        g = tl.where(y <= 0, 0.0, g)
    elif ACTIVATION == LEAKY_RELU:
        g = tl.where(y > 0, g, g * negative_slope)  # for NaN, as torch has it
    elif ACTIVATION == TANH:
        t = tanh(y)
        g = g * (1 - t * t)
    return g


def pointer(tensor: Tensor | None, placeholder: Tensor) -> Any:
    """A pointer for a kernel whose constants say whether it is read."""
    return placeholder if tensor is None else tensor


def size_key(x: Tensor, channels_last: bool) -> tuple[object, ...]:
    """The tuning key of `x` (N, C, H, W): layout, sizes rounded up to powers of two, dtype."""
    _, c, h, w = x.shape
    layout = "channels_last" if channels_last else "nchw"
    return layout, _triton.next_power_of_2(c), _triton.next_power_of_2(h * w), dtype_name(x.dtype)
