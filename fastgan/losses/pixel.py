"""Pixel losses that preserve the structure of the content (SPEC S9): images in [-1, 1]."""

from __future__ import annotations

from torch import Tensor, nn

from fastgan import ops


class SSIMLoss(nn.Module):
    """1 - SSIM of images mapped to [0, 1]."""

    def forward(self, result: Tensor, content: Tensor, reduction: str = "mean") -> Tensor:
        """(N, 3, H, W) each; a scalar in [0, 2], or (N,) for ``reduction="none"``."""
        return 1 - ops.ssim((result + 1) / 2, (content + 1) / 2, reduction=reduction)


class PSNRLoss(nn.Module):
    """-PSNR / 20 dB: of order one, so that it weighs like 1 - SSIM."""

    def forward(self, result: Tensor, content: Tensor) -> Tensor:
        """(N, 3, H, W) each; a scalar."""
        return ops.psnr((result + 1) / 2, (content + 1) / 2) / -20


class TotalVariation(nn.Module):
    """Mean squared difference of neighboring pixels, down and across."""

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W); a scalar."""
        down = (image[:, :, 1:] - image[:, :, :-1]).square().mean()
        across = (image[:, :, :, 1:] - image[:, :, :, :-1]).square().mean()
        return down + across
