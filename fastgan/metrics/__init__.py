"""Image quality metrics with state, and metrics of sets of generated images; each object is for one thread."""

from fastgan.metrics.coverage import Coverage
from fastgan.metrics.fixed_pattern import FixedPattern
from fastgan.metrics.generative import KID, Diversity, batch_diversity, pooled_features
from fastgan.metrics.image import PSNR, SSIM, ContentDistance, StyleDistance
from fastgan.metrics.lpips import LPIPS
from fastgan.metrics.luminance import LuminanceCorrelation

__all__ = [
    "KID",
    "LPIPS",
    "PSNR",
    "SSIM",
    "ContentDistance",
    "Coverage",
    "Diversity",
    "FixedPattern",
    "LuminanceCorrelation",
    "StyleDistance",
    "batch_diversity",
    "pooled_features",
]
