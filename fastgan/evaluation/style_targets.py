"""The Gram targets and codes of style images, each taken when it is first needed."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastgan.data import enlarge_to
from fastgan.data.tensors import image_to_tensor
from fastgan.losses import style_grams
from fastgan.models import STYLE_LAYERS, FusionGenerator, VGGEncoder
from fastgan.models.style_code import MIN_FEATURES_SIDE, style_code
from fastgan.utils.host_settings import own_settings

#: Styles whose Gram matrices are kept: 1.4 MB each. Taking them anew costs one pass of VGG-19, at 384 px half a second
#: of a CPU core.
_KEPT = 512


@dataclass(frozen=True)
class StyleReference:
    """A style that pictures are measured against.

    Args:
        targets: its Gram matrices at a short side of 384 px, layer -> (C, C), from ``fastgan.losses.style_grams``.
        images: the images that these are of, (1, 3, H, W) in [-1, 1].
    """

    targets: Mapping[str, Tensor]
    images: Sequence[Tensor]

    @classmethod
    @own_settings()
    def from_images(cls, encoder: VGGEncoder, images: Sequence[Tensor]) -> StyleReference:
        """One style of images (1, 3, H, W) in [-1, 1], as ``encoder`` sees them."""
        return cls(style_grams(encoder, images), images)


class _StyleTensors(Sequence[Tensor]):
    """Style images as the encoder takes them, each read and made when it is asked for."""

    def __init__(self, images: Sequence[np.ndarray], indices: range, device: torch.device) -> None:
        self._images = images
        self._indices = indices
        self._device = device

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: Any) -> Any:
        image = self._images[self._indices[index]]
        return image_to_tensor(enlarge_to(image, MIN_FEATURES_SIDE)).to(self._device)


class StyleTargets(Sequence[StyleReference]):
    """The references of style images, by the index of the image.

    Args:
        images: (H, W, 3) uint8, at the short side that quality is measured at; may be read as they are asked for.
        encoder: VGG-19 in float32; a copy of it is kept, since targets are taken in float32.
    """

    layers = STYLE_LAYERS

    def __init__(self, images: Sequence[np.ndarray], encoder: VGGEncoder) -> None:
        self.images = images
        # On CPU `to_compute` leaves the weights as they are, and they need not be there twice.
        on_cpu = encoder.scale.device.type == "cpu"
        self._encoder = copy.copy(encoder) if on_cpu else copy.deepcopy(encoder)
        self._device = encoder.scale.device
        self._grams: dict[int, dict[str, Tensor]] = {}
        self._codes: dict[int, Tensor] = {}
        self._mean: dict[str, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        return self.reference(range(len(self))[index])

    @property
    def mean_reference(self) -> StyleReference:
        """The style that a network for one style is measured against: all images together."""
        return StyleReference(self.mean_targets, self._tensors(range(len(self))))

    def reference(self, index: int) -> StyleReference:
        """The style that pictures in it are measured against."""
        return StyleReference(self.grams(index), self._tensors(range(index, index + 1)))

    @property
    def mean_targets(self) -> dict[str, Tensor]:
        """The Gram targets, layer -> (C, C), of a network for one style: the mean over all images."""
        if self._mean is None:
            self._mean = style_grams(self._encoder, self._tensors(range(len(self))))
        return self._mean

    def grams(self, index: int) -> dict[str, Tensor]:
        """The Gram targets of one style, layer -> (C, C)."""
        if index not in self._grams:
            if len(self._grams) >= _KEPT:
                self._grams.pop(next(iter(self._grams)))
            self._grams[index] = style_grams(self._encoder, self._tensors(range(index, index + 1)))
        return self._grams[index]

    def targets(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """The Gram targets of several styles, layer -> (N, C, C)."""
        grams = [self.grams(index) for index in indices]
        return {layer: torch.stack([gram[layer] for gram in grams]) for layer in self.layers}

    def code(self, index: int, generator: FusionGenerator) -> Tensor:
        """The code of one style for ``generator`` (``encode_style``), (1, C, h, w); its weights do not matter."""
        if index not in self._codes:
            if len(self._codes) >= _KEPT:
                self._codes.pop(next(iter(self._codes)))
            self._codes[index] = style_code(self._tensors(range(len(self)))[index], self._encoder, generator)
        return self._codes[index]

    def _tensors(self, indices: range) -> _StyleTensors:
        return _StyleTensors(self.images, indices, self._device)
