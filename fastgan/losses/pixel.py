"""Pixel losses that preserve the structure of the content (SPEC S9): images in [-1, 1]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastgan import ops
from fastgan.models.layers import at_least_float32

#: Luma of Rec. 601, as in Pillow's mode "L".
LUMA_WEIGHTS = (0.299, 0.587, 0.114)
#: Side in pixels of the cells that luminance is compared in.
_CELL = 8
#: The contrast of a result over its photograph's that costs nothing.
_CONTRAST = (0.5, 2.0)
#: Standard deviation of luminance, of 0 to 1, that makes a loss of 1: about a photograph's own.
_LUMINANCE_UNIT = 0.25


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


class LuminanceLoss(nn.Module):
    """Light and dark where the photograph has none: mean squared difference of the luminance averaged over 8 px.

    The photograph's luminance is first fitted to the result's, image by image: any brightness, and a contrast of half
    to twice the photograph's. So shadows that hang in a smooth sky and faces that turn black cost, at the scale that
    neither SSIM (11 px) nor relu2_1 (14 px) sees; brush marks do not.
    """

    def forward(self, result: Tensor, content: Tensor, reduction: str = "mean") -> Tensor:
        """(N, 3, H, W) each, H and W at least 8; a scalar, or (N,) for ``reduction="none"``; 1 for a difference whose
        standard deviation is a fourth of the range."""
        one, other = (_cell_luminance(images) for images in (result, content))
        with torch.no_grad():
            slope = (one * other).mean(1) / other.square().mean(1).clamp_min(1e-6)
            fitted = slope.clamp(*_CONTRAST)[:, None] * other
        loss = (one - fitted).square().mean(1) / _LUMINANCE_UNIT**2
        return loss if reduction == "none" else loss.mean()


def _cell_luminance(images: Tensor) -> Tensor:
    """Images in [-1, 1] to the mean luminance of each cell, less the image's: (N, cells), of a range of 1."""
    images = at_least_float32(images)
    red, green, blue = F.avg_pool2d(images, _CELL).flatten(2).unbind(1)
    luminance = (LUMA_WEIGHTS[0] * red + LUMA_WEIGHTS[1] * green + LUMA_WEIGHTS[2] * blue) / 2
    return luminance - luminance.mean(1, keepdim=True)
