"""Pixel conversion in plain torch."""

import torch
from torch import Tensor


def from_pixels(
    x: Tensor,
    dtype: torch.dtype,
    channels_last: bool,
    top: Tensor | None,
    left: Tensor | None,
    height: int,
    width: int,
    flip: Tensor | bool,
) -> Tensor:
    compute_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    scaled = (_cut(x, top, left, height, width, flip).permute(0, 3, 1, 2).to(compute_dtype) / 127.5 - 1).to(dtype)
    return scaled.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _cut(x: Tensor, top: Tensor | None, left: Tensor | None, height: int, width: int, flip: Tensor | bool) -> Tensor:
    if top is None and left is None and not isinstance(flip, Tensor):
        return x.flip(2) if flip else x
    rows = _indices(top, height, x.shape[1], x)
    columns = _indices(left, width, x.shape[2], x)
    if isinstance(flip, Tensor):
        columns = torch.where(flip[:, None], columns.flip(1), columns)
    elif flip:
        columns = columns.flip(1)
    images = torch.arange(x.shape[0], device=x.device)
    return x[images[:, None, None], rows[:, :, None], columns[:, None, :]]


def _indices(corner: Tensor | None, size: int, full: int, x: Tensor) -> Tensor:
    index = torch.arange(size, device=x.device)[None]
    return index if corner is None else index + corner.long().clamp(0, full - size)[:, None]


def to_pixels(x: Tensor) -> Tensor:
    x32 = x.detach().to(torch.float64 if x.dtype == torch.float64 else torch.float32)
    levels = x32.mul(127.5).add_(127.5).round_().nan_to_num_(0.0).clamp_(0, 255)
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
