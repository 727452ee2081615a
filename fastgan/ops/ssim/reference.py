"""SSIM in plain torch: any floating dtype, differentiable to any order."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.precision import autocast


def ssim(x: Tensor, y: Tensor, data_range: float, window: str, window_size: int, sigma: float) -> Tensor:
    compute_dtype = torch.float64 if torch.float64 in (x.dtype, y.dtype) else torch.float32
    n, c, h, w = x.shape
    # Autocast would run the convolutions in bfloat16, whose rounding is larger than the variances sought.
    with autocast(x.device, torch.float32):
        x, y = x.to(compute_dtype).reshape(1, n * c, h, w), y.to(compute_dtype).reshape(1, n * c, h, w)
        # Variances do not change under a shift of the plane, but E[x^2] - E[x]^2 of a large mean has no digits left.
        mean_x, mean_y = x.detach().mean((2, 3), keepdim=True), y.detach().mean((2, 3), keepdim=True)
        x, y = x - mean_x, y - mean_y
        plus, minus = x + y, x - y
        moments = torch.cat((plus, minus, plus.square(), minus.square()), 1)
        mu_plus, mu_minus, sq_plus, sq_minus = _blur(moments, _taps(window, window_size, sigma, x)).chunk(4, 1)
        area = window_size**2
        sample = area / (area - 1) if window == "uniform" else 1.0
        var_plus = (sq_plus - mu_plus.square()) * sample
        var_minus = (sq_minus - mu_minus.square()) * sample
        mu_x = (mu_plus + mu_minus) / 2 + mean_x
        mu_y = (mu_plus - mu_minus) / 2 + mean_y
        c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
        # var(x+y) - var(x-y) = 4 cov and var(x+y) + var(x-y) = 2 (var x + var y)
        structure = ((var_plus - var_minus) / 2 + c2) / ((var_plus + var_minus) / 2 + c2)
        luminance = (2 * mu_x * mu_y + c1) / (mu_x.square() + mu_y.square() + c1)
        return (structure * luminance).reshape(n, -1).mean(1)


def _blur(planes: Tensor, taps: Tensor) -> Tensor:
    # One image of many channels: its depthwise kernels are 20 to 50 times faster on CPU than many one-channel images.
    count = planes.shape[1]
    rows = F.conv2d(planes, taps.view(1, 1, -1, 1).expand(count, -1, -1, -1), groups=count)
    return F.conv2d(rows, taps.view(1, 1, 1, -1).expand(count, -1, -1, -1), groups=count)


def _taps(window: str, window_size: int, sigma: float, like: Tensor) -> Tensor:
    if window == "uniform":
        return torch.full((window_size,), 1 / window_size, dtype=like.dtype, device=like.device)
    offsets = torch.arange(window_size, dtype=torch.float64, device=like.device) - window_size // 2
    weights = torch.exp(-offsets.square() / (2 * sigma**2))
    return (weights / weights.sum()).to(like.dtype)
