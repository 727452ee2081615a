"""torch.ops.fastgan.psnr: (N, C, H, W) x 2 to (N,), float32, CPU; no gradient yet."""

import torch
from torch import Tensor

from fastgan.ops.psnr import native


@torch.library.custom_op("fastgan::psnr", mutates_args=(), device_types="cpu")
def psnr(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    return native.psnr(x, y, data_range)


@psnr.register_fake
def _(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    return x.new_empty(x.shape[0])
