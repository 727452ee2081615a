"""Pixel conversion by the extension, on CPU."""

import torch
from torch import Tensor

from fastgan.ops import _native


def memory_format(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format


def check(
    x: Tensor, dtypes: tuple[torch.dtype, ...], dtype: torch.dtype, height: int, width: int, *options: Tensor | None
) -> None:
    """Guard the kernels' memory against direct calls of the registered op; `options`: top, left and flip."""
    if x is None:  # torch lets None pass for a Tensor of a schema
        raise TypeError("expected tensors, got None")
    if x.dtype != torch.uint8 or x.dim() != 4 or x.layout != torch.strided:
        raise ValueError(f"x must be (N, H, W, C) uint8, got {x.dtype} {tuple(x.shape)}")
    if dtype not in dtypes:
        raise ValueError(f"dtype must be one of {', '.join(map(str, dtypes))}, got {dtype}")
    top, left, flip = options
    for name, size, full, corner in (("height", height, x.shape[1], top), ("width", width, x.shape[2], left)):
        if size != full and (corner is None or not 0 < size < full):
            raise ValueError(f"{name} must be at most {full}, and {full} without a corner, got {size}")
    for name, tensor, allowed in (
        ("top", top, (torch.int64, torch.int32)),
        ("left", left, (torch.int64, torch.int32)),
        ("flip", flip, (torch.bool,)),
    ):
        if tensor is None:
            continue
        if tensor.shape != x.shape[:1] or tensor.dtype not in allowed or tensor.device != x.device:
            raise ValueError(
                f"{name} must be {' or '.join(map(str, allowed))} ({x.shape[0]},) on {x.device}, "
                f"got {tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"
            )


def from_pixels(
    x: Tensor,
    dtype: torch.dtype,
    channels_last: bool,
    top: Tensor | None,
    left: Tensor | None,
    height: int,
    width: int,
    flip: Tensor | None,
    mirrored: bool,
) -> Tensor:
    check(x, _native.DTYPES["cpu"], dtype, height, width, top, left, flip)
    out = _native.empty(x, (x.shape[0], x.shape[3], height, width), dtype, memory_format(channels_last))
    if out.numel() == 0:
        return out
    corners = [None if corner is None else corner.long().contiguous() for corner in (top, left)]
    flip = None if flip is None else flip.contiguous()
    _native.call(
        "from_pixels_forward",
        x.device,
        _native.tensor_arg(x),
        tuple(x.shape),
        *map(_native.data_ptr, corners),
        _native.data_ptr(flip),
        mirrored,
        _native.tensor_arg(out),
        tuple(out.shape),
        channels_last,
    )
    return out


def to_pixels(x: Tensor) -> Tensor:
    _native.check(x)
    n, c, h, w = x.shape
    out = _native.empty(x, (n, h, w, c), torch.uint8)
    _native.call("to_pixels_forward", x.device, _native.tensor_arg(x), tuple(x.shape), _native.data_ptr(out))
    return out
