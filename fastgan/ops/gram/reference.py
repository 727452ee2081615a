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


def gram_style_loss(x: Tensor, target: Tensor, rows: int, cols: int, window_weight: float) -> tuple[Tensor, Tensor]:
    """The loss of each image, and the whole plane's part of it."""

    def loss(matrices: Tensor) -> Tensor:
        return (matrices - target.to(matrices.dtype)).square().mean((1, 2))

    if rows * cols == 1:
        whole = loss(gram(x))
        return whole, whole
    height, width = x.shape[2:]
    matrices = torch.zeros((), dtype=x.dtype, device=x.device)
    windows = torch.zeros((), dtype=x.dtype, device=x.device)
    for i in range(rows):
        top, bottom = i * height // rows, (i + 1) * height // rows
        for j in range(cols):
            left, right = j * width // cols, (j + 1) * width // cols
            matrix = gram(x[:, :, top:bottom, left:right])
            matrices = matrices + matrix * ((bottom - top) * (right - left) / (height * width))
            windows = windows + loss(matrix) / (rows * cols)
    whole = loss(matrices)
    return (1 - window_weight) * whole + window_weight * windows, whole
