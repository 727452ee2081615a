"""Networks: generators, discriminators and the VGG-19 encoder. torch alone.

Importing this package registers them; ``fastgan.models.registry`` has the registries and what a network's spec says.
"""

from fastgan.models.article import ArticleDiscriminator, ArticleGenerator
from fastgan.models.dcgan import DCGANDiscriminator, DCGANGenerator
from fastgan.models.fast import FastGenerator
from fastgan.models.fusion import FusionGenerator
from fastgan.models.layers import spectral_norm
from fastgan.models.patchgan import PatchGAN
from fastgan.models.registry import (
    DISCRIMINATORS,
    GENERATORS,
    DiscriminatorSpec,
    GeneratorSpec,
    register_discriminator,
    register_generator,
)
from fastgan.models.vgg import LAYERS, STYLE_LAYERS, VGGEncoder

__all__ = [
    "DISCRIMINATORS",
    "GENERATORS",
    "LAYERS",
    "STYLE_LAYERS",
    "ArticleDiscriminator",
    "ArticleGenerator",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "DiscriminatorSpec",
    "FastGenerator",
    "FusionGenerator",
    "GeneratorSpec",
    "PatchGAN",
    "VGGEncoder",
    "register_discriminator",
    "register_generator",
    "spectral_norm",
]
