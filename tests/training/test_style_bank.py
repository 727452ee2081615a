"""The style images of a training: the crops that D sees."""

import numpy as np
import torch
from helpers.tiny_runs import picture

from fastgan.models import STYLE_LAYERS, VGGEncoder
from fastgan.training.style_bank import Styles

IMAGES = [picture(40, 52, 1, busy=True), picture(36, 33, 2, busy=True), picture(60, 35, 3, busy=True)]


def test_crops_are_of_the_whole_style() -> None:
    """As they are where they are large enough; enlarged, and no more than needed, where they are not."""
    encoder = VGGEncoder(STYLE_LAYERS, "random")
    styles = Styles(IMAGES, encoder, 32)
    for crop, image in zip(styles.crops, IMAGES, strict=True):
        assert np.array_equal(crop.permute(1, 2, 0).numpy(), image) and crop.dtype == torch.uint8
    assert styles.min_side == 33
    large = Styles(IMAGES, encoder, 50)
    assert [min(crop.shape[1:]) for crop in large.crops] == [50, 50, 50] and large.min_side == 50
    assert [image.shape for image in large.images] == [image.shape for image in IMAGES]
    for layer, target in large.grams(1).items():  # measured at their own size all the same
        assert torch.equal(target, styles.grams(1)[layer])
