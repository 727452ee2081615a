"""Stateless functions on tensors: one folder an op, the same public signature for every backend of it.

Images and features are (N, C, H, W). Any number of threads may call them at once. Every op takes `backend=None`;
`report()` says what a call gets by default, and why.
"""

from fastgan.ops._registry import report, second_order
from fastgan.ops.bias_act import bias_act
from fastgan.ops.conv2d import conv2d
from fastgan.ops.fuse import fuse
from fastgan.ops.gan_loss import discriminator_loss, generator_loss
from fastgan.ops.gram import gram, gram_style_loss
from fastgan.ops.image_convert import from_pixels, to_pixels
from fastgan.ops.instance_norm import instance_norm
from fastgan.ops.max_pool import max_pool
from fastgan.ops.optim_step import check_finite, optim_step
from fastgan.ops.psnr import psnr
from fastgan.ops.ssim import ssim

__all__ = [
    "bias_act",
    "check_finite",
    "conv2d",
    "discriminator_loss",
    "from_pixels",
    "fuse",
    "generator_loss",
    "gram",
    "gram_style_loss",
    "instance_norm",
    "max_pool",
    "optim_step",
    "psnr",
    "report",
    "second_order",
    "ssim",
    "to_pixels",
]
