"""What Triton kernels over (N, C, H, W) tensors share: tiles of channels by pixels, at any strides.

A tile is (BLOCK_C, BLOCK_P), of one image. One body serves NCHW (one channel, many pixels) and channels_last (many
channels, few pixels): a stride of 1 is a constant to the compiler, which lays the threads along it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from fastgan.ops import _checks, _triton

#: By the names that the public functions take; the kernels compare with these numbers.
ACTIVATIONS: dict[str | None, int] = {name: code for code, name in enumerate(_checks.ACTIVATIONS)}
RELU, LEAKY_RELU, TANH = tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)


class Arranged(NamedTuple):
    """`strides`: of each tensor (n, c, h, w), flat. `merged`: a pixel's offset is its number times the last stride."""

    strides: tuple[int, ...]
    merged: bool
    channels_last: bool


def arrange(*tensors: Tensor) -> Arranged:
    """The strides of tensors of one shape (N, C, H, W), the first of which decides how threads lie.

    Raises:
        ValueError: an image that spans 2^31 elements or more: offsets within one have 32 bits.
    """
    _, _, h, w = tensors[0].shape
    check_span(*tensors)
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
    first = strides[0]
    return Arranged(tuple(s for each in strides for s in each), merged, first[1] < first[3])


def check_span(*tensors: Tensor) -> None:
    """Raises ValueError where 32 bits do not count the elements that one image spans."""
    for tensor in tensors:
        span = sum((size - 1) * stride for size, stride in zip(tensor.shape[1:], tensor.stride()[1:], strict=True))
        if span >= 2**31:
            raise ValueError(
                f"Triton kernels take images that span less than 2^31 elements, got {tuple(tensor.shape)} with strides "
                f"{tensor.stride()}; use backend='reference'"
            )


@triton.jit
def pixel_offsets(p, width, stride_h, stride_w, MERGED: tl.constexpr):
    """Of pixels by number, within a plane."""
    if MERGED:
        return p * stride_w
    return (p // width) * stride_h + (p % width) * stride_w


@triton.jit
def tanh(y):
    # libdevice is not to be had in the interpreter.
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
def pull_back(g, y, negative_slope, ACTIVATION: tl.constexpr):
    """The gradient by `y`, before activation, of what has the gradient `g` after it."""
    if ACTIVATION == RELU:
        g = tl.where(y <= 0, 0.0, g)
    elif ACTIVATION == LEAKY_RELU:
        g = tl.where(y > 0, g, g * negative_slope)  # for NaN, as torch has it
    elif ACTIVATION == TANH:
        t = tanh(y)
        g = g * (1 - t * t)
    return g


def pointer(tensor: Tensor | None, instead: Tensor) -> Any:
    """A pointer for a kernel whose constants say whether it is read."""
    return instead if tensor is None else tensor


def size_key(x: Tensor, channels_last: bool) -> tuple[object, ...]:
    """What the best configuration for `x` (N, C, H, W) depends on: layout, sizes by powers of two, dtype."""
    _, c, h, w = x.shape
    layout = "channels_last" if channels_last else "nchw"
    return layout, _triton.next_power_of_2(c), _triton.next_power_of_2(h * w), str(x.dtype).removeprefix("torch.")
