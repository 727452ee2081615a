"""How far SSIM and PSNR may be off by rounding alone, from the images themselves."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from helpers.bounds import approx, rounding
from helpers.networks import sums
from torch import Tensor

from fastgan.models import VGGEncoder


def ssim_error(
    x: Tensor, y: Tensor, window_size: int = 11, data_range: float = 1.0, dtype: torch.dtype = torch.float32
) -> float:
    """The error of the value, and of a gradient as a share of its largest.

    Means of squares by two passes of ``window_size`` taps, products, differences and quotients: seven steps, whose
    errors are shares of the squares about a plane's mean, while what is sought is the windows' variances.
    """
    power = spread = torch.zeros(())
    for image in (x.double(), y.double()):
        image = image - image.mean((2, 3), keepdim=True)
        mean, square = (F.avg_pool2d(each, window_size, 1) for each in (image, image.square()))
        power, spread = power + square, spread + square - mean.square()
    share = (power / (spread + (0.03 * data_range) ** 2)).mean().item()
    return rounding(window_size, 7, dtype) * (1 + share)


def psnr_error(x: Tensor, dtype: torch.dtype = torch.float32) -> float:
    """In dB: of the logarithm of a mean of C * H * W squares of differences."""
    return 10 / math.log(10) * rounding(x[0].numel(), 3, dtype)


def feature_steps(encoder: VGGEncoder, pixels: int = 56 * 40) -> int:
    """Steps of features in float32 and of their sums over up to ``pixels`` pixels, in two computations."""
    return 2 * (sums(encoder) + math.ceil(math.sqrt(pixels)))


def approx_style_distance(want: float, encoder: VGGEncoder, pixels: int = 56 * 40) -> Any:
    """A squared relative difference, of what is off by rounding each."""
    difference = math.sqrt(want)
    return approx(want, steps=feature_steps(encoder, pixels), scale=2 * difference * (1 + difference))
