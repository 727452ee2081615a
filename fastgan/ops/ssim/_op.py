"""torch.ops.fastgan.ssim: (N, C, H, W) x 2 to (N,), float32, CPU; no gradient yet."""

import torch
from torch import Tensor

from fastgan.ops.ssim import native


@torch.library.custom_op("fastgan::ssim", mutates_args=(), device_types="cpu")
def ssim(x: Tensor, y: Tensor, data_range: float, window: str, window_size: int, sigma: float) -> Tensor:
    return native.ssim(x, y, data_range, window, window_size, sigma)


@ssim.register_fake
def _(x: Tensor, y: Tensor, data_range: float, window: str, window_size: int, sigma: float) -> Tensor:
    return x.new_empty(x.shape[0])
