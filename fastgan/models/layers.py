"""Layers that the networks are built from."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastgan import ops


class InstanceNorm(nn.Module):
    """``ops.instance_norm`` with its parameters (C,), activation and, in ``forward``, a residual.

    ``frozen`` holds the moments that tiled inference fixed for the whole picture; None computes them from the input.
    """

    def __init__(self, channels: int, activation: str | None = None, *, affine: bool = True) -> None:
        super().__init__()
        self.activation = activation
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.frozen: tuple[Tensor, Tensor] | None = None
        self.recording = False

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """(N, C, H, W) to the same shape and dtype."""
        if self.recording:
            var, mean = torch.var_mean(x.float(), dim=(2, 3), correction=0, keepdim=True)
            self.frozen = (mean, torch.rsqrt(var + 1e-5))
        elif self.frozen is not None:
            return self._apply_frozen(x, residual)
        return ops.instance_norm(x, self.weight, self.bias, residual, activation=self.activation)

    def _apply_frozen(self, x: Tensor, residual: Tensor | None) -> Tensor:
        assert self.frozen is not None
        mean, scale = self.frozen
        if self.weight is not None and self.bias is not None:
            scale = scale * self.weight.view(1, -1, 1, 1)
            shift = self.bias.view(1, -1, 1, 1) - mean * scale
        else:
            shift = -mean * scale
        out = (x.float() * scale + shift).to(x.dtype)
        if self.activation == "relu":
            out = F.relu(out)
        elif self.activation == "leaky_relu":
            out = F.leaky_relu(out, 0.2)
        return out if residual is None else out + residual


def conv(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    bias: bool = False,
    padding_mode: Literal["zeros", "reflect"] = "reflect",
) -> nn.Conv2d:
    """A convolution that keeps the size (divided by ``stride``); no bias where a norm follows and would cancel it."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=bias, padding_mode=padding_mode)


def upsample_nearest(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, 2H, 2W), every pixel four times, in the layout of ``x``.

    A broadcast copy: on CPU forward and backward of (4, 32, 128, 128) bfloat16 channels_last took 30 ms by
    ``F.interpolate``, whose backward is scalar, and takes 7 ms so.
    """
    n, c, h, w = x.shape
    if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
        pixels = x.permute(0, 2, 3, 1)[:, :, None, :, None]
        return pixels.expand(n, h, 2, w, 2, c).reshape(n, 2 * h, 2 * w, c).permute(0, 3, 1, 2)
    return x[:, :, :, None, :, None].expand(n, c, h, 2, w, 2).reshape(n, c, 2 * h, 2 * w)
