"""SSIM by the extension."""

import torch
from torch import Tensor

from fastgan.ops import _native


def ssim(x: Tensor, y: Tensor, data_range: float, window: str, window_size: int, sigma: float) -> Tensor:
    _native.check_pair(x, y)
    if window_size > min(x.shape[2:]) or window_size < 1 or window_size % 2 == 0:
        raise ValueError(f"window_size must be odd and fit {tuple(x.shape[2:])}, got {window_size}")
    out = x.new_empty(x.shape[0])
    _native.extension().ssim_forward(
        x.data_ptr(),
        x.stride(),
        y.data_ptr(),
        y.stride(),
        x.shape,
        data_range,
        window == "gaussian",
        window_size,
        sigma,
        out.data_ptr(),
        torch.get_num_threads(),
    )
    return out
