"""Whether light and dark lie where the photograph has them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastgan.metrics.base import ImageMetric, check_pair

#: Luma of Rec. 601, as in Pillow's mode "L".
_WEIGHTS = (0.299, 0.587, 0.114)
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
        pairs = zip(self._blurred(result), self._blurred(photograph), strict=True)
        self._add(torch.tensor([_correlation(one, other) for one, other in pairs], dtype=torch.float64))

    def _blurred(self, images: Tensor) -> list[np.ndarray]:
        from skimage.filters import gaussian

        luminance = torch.tensordot(images.detach().cpu().double(), torch.tensor(_WEIGHTS).double(), ([1], [0]))
        return [gaussian(image, self._sigma, mode="reflect", truncate=4.0) for image in luminance.numpy()]


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((one**2).sum() * (other**2).sum()))
    # Below rounding of values of order one there is nothing but rounding to correlate.
    return float((one * other).sum()) / scale if scale > 1e-12 * one.size else 0.0
