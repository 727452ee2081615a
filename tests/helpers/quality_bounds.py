"""How far SSIM and PSNR may be off by rounding alone, from the images themselves."""

import math

import torch
import torch.nn.functional as F
from helpers.bounds import rounding
from torch import Tensor


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
