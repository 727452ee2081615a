"""Image quality metrics with state, and metrics of sets of generated images."""

from fastgan.metrics.generative import KID, Diversity, batch_diversity, pooled_features
from fastgan.metrics.image import PSNR, SSIM, ContentDistance, StyleDistance

__all__ = [
    "KID",
    "PSNR",
    "SSIM",
    "ContentDistance",
    "Diversity",
    "StyleDistance",
    "batch_diversity",
    "pooled_features",
]
