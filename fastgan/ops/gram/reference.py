"""Gram matrices in plain torch."""

import torch
from torch import Tensor

from fastgan.precision import autocast


def gram(x: Tensor) -> Tensor:
    _, c, h, w = x.shape
    # Autocast would run bmm in bfloat16 and round sums over H*W products to 8 bits.
    with autocast(x.device, torch.float32):
        x32 = x if x.dtype == torch.float64 else x.float()
        features = x32.flatten(2)
        return torch.bmm(features, features.transpose(1, 2)) / (c * h * w)


def gram_style_loss(x: Tensor, target: Tensor) -> Tensor:
    matrices = gram(x)
    return (matrices - target.to(matrices.dtype)).square().mean((1, 2))
