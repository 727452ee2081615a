"""Style codes of arbitrary-style generators, and the image sizes at which styles are encoded."""

from __future__ import annotations

import torch
from torch import Tensor

from fastgan.models.fusion import FusionGenerator
from fastgan.models.vgg import VGGEncoder

#: Short side, in pixels, at which quality is measured and a style's Gram matrices are taken.
SHORT_SIDE = 384
#: Short side, in pixels, that VGG-19 needs to two cells at its deepest layer; smaller pictures are enlarged.
MIN_FEATURES_SIDE = 32
#: Bytes that a picture's features take a pixel of it: 64 channels of four bytes going into a layer of VGG-19 and as
#: many coming out, and as much again for what is kept of both and of the layers below.
FEATURES_BYTES_PER_PIXEL = 1024


@torch.no_grad()
def style_code(image: Tensor, encoder: VGGEncoder, generator: FusionGenerator) -> Tensor:
    """The code of a style image (1, 3, H, W) in [-1, 1] for ``generator``."""
    return generator.encode_style(encoder(image, generator.fused_layers))
