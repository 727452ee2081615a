"""Pixel conversion in plain torch."""

import torch
from torch import Tensor


def from_pixels(x: Tensor, dtype: torch.dtype, channels_last: bool) -> Tensor:
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    scaled = (x.permute(0, 3, 1, 2).to(wide) / 127.5 - 1).to(dtype)
    return scaled.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def to_pixels(x: Tensor) -> Tensor:
    wide = x.detach().to(torch.float64 if x.dtype == torch.float64 else torch.float32)
    levels = wide.mul(127.5).add_(127.5).round_().nan_to_num_(0.0).clamp_(0, 255)
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
