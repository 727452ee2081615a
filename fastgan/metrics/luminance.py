"""Light and dark: whether they lie where the photograph has them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastgan.losses.pixel import LUMA_WEIGHTS
from fastgan.metrics.base import ImageMetric, check_pair

_SIGMA = 8.0


class LuminanceCorrelation(ImageMetric):
    """Correlation of the blurred luminance of a result with its photograph's: 1 where light stays light, dark dark.

    Luminance is Rec. 601 luma, blurred by a Gaussian of ``sigma`` pixels (reflected at the edges, cut off at four
    sigma); the correlation is Pearson's over the pixels, and 0 where either image is flat.

    Example:
        >>> import torch
        >>> from fastgan import metrics
        >>> metric, images = metrics.LuminanceCorrelation(), torch.rand(2, 3, 64, 64)
        >>> metric.update(1 - images, images)
        >>> metric.compute().round(decimals=4)
        tensor(-1., dtype=torch.float64)
    """

    def __init__(self, sigma: float = _SIGMA) -> None:
        super().__init__()
        self._sigma = sigma

    def update(self, result: Tensor, photograph: Tensor) -> None:
        """Add images in one range of values, (N, 3, H, W) each. Raises ValueError for other shapes."""
        check_pair(result, photograph)
        one, other = (self._blurred(images).flatten(1) for images in (result, photograph))
        one, other = (images - images.mean(1, keepdim=True) for images in (one, other))
        scale = one.norm(dim=1) * other.norm(dim=1)
        # Below rounding of values of order one there is nothing but rounding to correlate.
        flat = scale <= 1e-12 * one.shape[1]
        self._add(torch.where(flat, 0.0, (one * other).sum(1) / scale))

    def _blurred(self, images: Tensor) -> Tensor:
        """Luminance (N, H, W) in float64."""
        weights = torch.tensor(LUMA_WEIGHTS, dtype=torch.float32).double()
        luminance = torch.tensordot(images.detach().cpu().double(), weights, ([1], [0]))
        down, across = (_blur_matrix(length, self._sigma) for length in luminance.shape[1:])
        return down @ luminance @ across.T


def _blur_matrix(length: int, sigma: float) -> Tensor:
    """(length, length) float64: what each pixel of a blurred row takes from those of the row."""
    radius = math.ceil(4 * sigma - 0.5)
    offsets = torch.arange(-radius, radius + 1)
    weights = (-0.5 * (offsets / sigma).double().square()).exp()
    sources = (torch.arange(length)[:, None] + offsets) % (2 * length)  # reflected, at both edges, as often as need be
    sources = torch.where(sources < length, sources, 2 * length - 1 - sources)
    matrix = torch.zeros(length, length, dtype=torch.float64)
    return matrix.scatter_add_(1, sources, (weights / weights.sum()).expand(length, -1))
