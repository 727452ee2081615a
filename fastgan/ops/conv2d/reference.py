"""Convolution with upsampling, bias and activation in plain torch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.precision import autocast_dtype


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: str,
    upsample: bool,
    activation: str | None,
    negative_slope: float,
) -> Tensor:
    if upsample:
        x = upsample_nearest(x)
    pad = (weight.shape[-1] - 1) // 2
    if padding == "reflect" and pad:
        x, pad = F.pad(x, (pad,) * 4, mode="reflect"), 0
    # Autocast casts float32 too, and once for all calls: D sees two batches.
    by_autocast = x.dtype == autocast_dtype(x.device)
    if not (by_autocast and weight.dtype == torch.float32):
        weight = weight.to(x.dtype)
    if bias is not None and not (by_autocast and bias.dtype == torch.float32):
        bias = bias.to(x.dtype)
    y = F.conv2d(x, weight, bias, stride, pad)
    if activation == "relu":
        return F.relu(y)
    return F.leaky_relu(y, negative_slope) if activation == "leaky_relu" else y


def upsample_nearest(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, 2H, 2W), every pixel four times, in the layout of ``x``.

    A broadcast copy: on CPU forward and backward of (4, 32, 128, 128) bfloat16 channels_last took 30 ms by
    ``F.interpolate``, whose backward is scalar code; this takes 7 ms.
    """
    n, c, h, w = x.shape
    if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
        pixels = x.permute(0, 2, 3, 1)[:, :, None, :, None]
        return pixels.expand(n, h, 2, w, 2, c).reshape(n, 2 * h, 2 * w, c).permute(0, 3, 1, 2)
    return x[:, :, :, None, :, None].expand(n, c, h, 2, w, 2).reshape(n, c, 2 * h, 2 * w)
