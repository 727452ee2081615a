"""Quality: metrics with state, measures of generated images, the collapse alarm, the controller that holds a target."""

from fastgan.quality.collapse import CollapseAlarm, batch_spread
from fastgan.quality.controller import Controller
from fastgan.quality.generation import KernelDistance, Spread, pooled_features
from fastgan.quality.metrics import PSNR, SSIM, ContentDistance, StyleDistance

__all__ = [
    "PSNR",
    "SSIM",
    "CollapseAlarm",
    "ContentDistance",
    "Controller",
    "KernelDistance",
    "Spread",
    "StyleDistance",
    "batch_spread",
    "pooled_features",
]
