"""Between pictures (uint8, NHWC) and the tensors of the networks (NCHW in [-1, 1])."""

import torch
from torch import Tensor

from fastgan.ops import _checks
from fastgan.ops._registry import FLOATING, Backend, register, select
from fastgan.ops.pixels import reference

register(Backend("from_pixels", "reference", reference.from_pixels, dtypes=(torch.uint8,)))
register(Backend("to_pixels", "reference", reference.to_pixels))


def from_pixels(
    x: Tensor, *, dtype: torch.dtype = torch.float32, channels_last: bool = True, backend: str | None = None
) -> Tensor:
    """Pictures to network input: `x / 127.5 - 1`.

    Args:
        x: (N, H, W, C) uint8.
        dtype: a floating dtype; the arithmetic is float32 or better, rounded once.
        channels_last: memory format of the result.

    Returns:
        (N, C, H, W) in [-1, 1]. `to_pixels` gives back every uint8 value exactly, from each of the dtypes.

    Raises:
        TypeError: `x` is not uint8 or `dtype` is not floating.
        ValueError: `x` is not four-dimensional.
    """
    if not isinstance(x, Tensor) or x.dtype != torch.uint8:
        raise TypeError(f"x must be a uint8 tensor, got {x.dtype if isinstance(x, Tensor) else type(x).__name__}")
    if x.dim() != 4:
        raise ValueError(f"x must be (N, H, W, C), got shape {tuple(x.shape)}")
    if dtype not in FLOATING:
        raise TypeError(f"dtype must be one of {', '.join(map(str, FLOATING))}, got {dtype}")
    return select("from_pixels", x, backend=backend)(x, dtype, channels_last)


def to_pixels(x: Tensor, *, backend: str | None = None) -> Tensor:
    """Network output to pictures: `(x + 1) * 127.5`, rounded half to even and clamped to 0..255.

    Args:
        x: (N, C, H, W) floating, nominally in [-1, 1]; NaN becomes 0.

    Returns:
        (N, H, W, C) uint8, contiguous.

    Raises:
        TypeError: `x` is not floating.
        ValueError: `x` is not four-dimensional or empty.
    """
    _checks.nchw("x", x)
    return select("to_pixels", x, backend=backend)(x)
