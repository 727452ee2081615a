"""Image quality metrics with state, and measures of sets of generated images."""

from fastgan.metrics.generative import KernelDistance, Spread, batch_spread, pooled_features
from fastgan.metrics.image import PSNR, SSIM, ContentDistance, StyleDistance

__all__ = [
    "PSNR",
    "SSIM",
    "ContentDistance",
    "KernelDistance",
    "Spread",
    "StyleDistance",
    "batch_spread",
    "pooled_features",
]
