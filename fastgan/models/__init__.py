"""Networks: generators, discriminators and the VGG-19 encoder. torch alone."""

from fastgan.models.encoder import LAYERS, STYLE_LAYERS, VGGEncoder
from fastgan.models.fast import FastGenerator
from fastgan.models.patchgan import PatchGAN

__all__ = ["LAYERS", "STYLE_LAYERS", "FastGenerator", "PatchGAN", "VGGEncoder"]
