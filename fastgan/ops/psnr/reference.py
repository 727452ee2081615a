"""PSNR in plain torch."""

import math

import torch
from torch import Tensor


def psnr(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    compute_dtype = torch.float64 if torch.float64 in (x.dtype, y.dtype) else torch.float32
    error = (x.to(compute_dtype) - y.to(compute_dtype)).square().mean((1, 2, 3))
    # Identical images: infinite, and constant, where log10(0) would give gradients of nan.
    same = error == 0
    value = 20 * math.log10(data_range) - 10 * torch.log10(error.masked_fill(same, 1))
    return value.masked_fill(same, math.inf)
