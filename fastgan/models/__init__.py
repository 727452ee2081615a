"""Networks: generators, discriminators and the VGG-19 encoder. torch alone."""

from fastgan.models.article import ArticleDiscriminator, ArticleGenerator
from fastgan.models.dcgan import DCGANDiscriminator, DCGANGenerator
from fastgan.models.fast import FastGenerator
from fastgan.models.fusion import FusionGenerator
from fastgan.models.layers import spectral_norm
from fastgan.models.patchgan import PatchGAN
from fastgan.models.vgg import LAYERS, STYLE_LAYERS, VGGEncoder

#: Networks by their names in configs and saved models.
GENERATORS = {"fast": FastGenerator, "fusion": FusionGenerator, "article": ArticleGenerator, "dcgan": DCGANGenerator}
DISCRIMINATORS = {"patch": PatchGAN, "article": ArticleDiscriminator, "dcgan": DCGANDiscriminator}

__all__ = [
    "DISCRIMINATORS",
    "GENERATORS",
    "LAYERS",
    "STYLE_LAYERS",
    "ArticleDiscriminator",
    "ArticleGenerator",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "FastGenerator",
    "FusionGenerator",
    "PatchGAN",
    "VGGEncoder",
    "spectral_norm",
]
