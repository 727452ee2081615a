"""The style images of a run: their targets, and what the discriminator sees of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fastgan.data import enlarge_to
from fastgan.evaluation.style_targets import StyleTargets
from fastgan.models import VGGEncoder
from fastgan.models.style_code import MIN_FEATURES_SIDE


class Styles(StyleTargets):
    """Style images with all that a training takes from them.

    Args:
        images: (H, W, 3) uint8, at the short side that quality is measured at.
        encoder: VGG-19 in float32; a copy of it is kept, since targets are taken in float32.
        size: the least side of what D's crops are cut from, pixels.
    """

    def __init__(self, images: Sequence[np.ndarray], encoder: VGGEncoder, size: int) -> None:
        super().__init__([enlarge_to(image, MIN_FEATURES_SIDE) for image in images], encoder)
        crops = [torch.from_numpy(np.array(enlarge_to(style, size))).permute(2, 0, 1) for style in self.images]
        self.crops = [crop.to(self._device) for crop in crops]

    @property
    def min_side(self) -> int:
        """The largest side of a crop that fits into every style, pixels."""
        return min(min(crop.shape[1:]) for crop in self.crops)
