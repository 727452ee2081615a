"""The convolution floor: how long torch takes for the convolutions that a step or a picture needs, and nothing else.

The shapes are those of the baseline networks. A forward convolution, the gradient of its input and that of its weight
count one each, where they are needed: VGG-19 is frozen, no gradient of a photograph is needed, and the generator's
update needs no gradient of the discriminator's weights. A step below the floor does fewer operations.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn

from fastgan.bench.baselines.networks import BaselineDiscriminator, BaselineEncoder, BaselineGenerator
from fastgan.profiling.convolutions import ConvolutionCounts, count_convolutions


def of_step(size: int, batch: int) -> ConvolutionCounts:
    """The convolutions of one training step, with how often each runs."""
    with torch.device("meta"):
        images = torch.empty(batch, 3, size, size)
        generator, discriminator, encoder = BaselineGenerator(), BaselineDiscriminator(), BaselineEncoder()
    fakes = torch.empty_like(images, requires_grad=True)
    counts: ConvolutionCounts = Counter()
    with torch.no_grad():
        counts += _count(encoder, images)
    counts += _count(generator, images)
    for _ in ("real", "fake"):
        counts += _count(discriminator, images)
    counts += _count(discriminator.requires_grad_(False), fakes)
    counts += _count(encoder, fakes)
    return counts


def of_picture(size: int) -> ConvolutionCounts:
    """The convolutions that stylize one picture."""
    with torch.device("meta"), torch.no_grad():
        return _count(BaselineGenerator(), torch.empty(1, 3, size, size))


def _count(network: nn.Module, images: Tensor) -> ConvolutionCounts:
    with count_convolutions({"network": network}) as counts:
        network(images)
    return counts["network"]
