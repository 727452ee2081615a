"""Quality: metrics with state, and the controller that holds a target."""

from fastgan.quality.controller import Controller
from fastgan.quality.metrics import PSNR, SSIM, ContentDistance, StyleDistance

__all__ = ["PSNR", "SSIM", "ContentDistance", "Controller", "StyleDistance"]
