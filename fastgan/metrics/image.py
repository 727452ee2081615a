"""Metrics with ``update``, ``compute`` and ``reset``, in the manner of torchmetrics, over ``fastgan.ops``."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fastgan import ops
from fastgan.losses import ContentLoss, StyleLoss
from fastgan.metrics.base import ImageMetric


class SSIM(ImageMetric):
    """Structural similarity of images in [0, data_range]; options as ``fastgan.ops.ssim``.

    Example:
        >>> import torch
        >>> from fastgan import metrics
        >>> metric, images = metrics.SSIM(), torch.rand(4, 3, 32, 32)
        >>> metric.update(images, images)
        >>> metric.compute().round(decimals=4)
        tensor(1., dtype=torch.float64)
    """

    def __init__(
        self, data_range: float = 1.0, *, window: str = "gaussian", window_size: int = 11, sigma: float = 1.5
    ) -> None:
        super().__init__()
        self._options = {"data_range": data_range, "window": window, "window_size": window_size, "sigma": sigma}

    @torch.no_grad()
    def update(self, x: Tensor, y: Tensor) -> None:
        """Add images, (N, C, H, W) each."""
        self._add(ops.ssim(x, y, reduction="none", **self._options))  # type: ignore[arg-type]


class PSNR(ImageMetric):
    """Peak signal-to-noise ratio in dB of images in [0, data_range]; infinite for equal images.

    Example:
        >>> import torch
        >>> from fastgan import metrics
        >>> metric = metrics.PSNR()
        >>> metric.update(torch.full((1, 3, 8, 8), 0.5), torch.full((1, 3, 8, 8), 0.6))
        >>> metric.compute().round(decimals=2)
        tensor(20., dtype=torch.float64)
    """

    def __init__(self, data_range: float = 1.0) -> None:
        super().__init__()
        self._data_range = data_range

    @torch.no_grad()
    def update(self, x: Tensor, y: Tensor) -> None:
        """Add images, (N, C, H, W) each."""
        self._add(ops.psnr(x, y, data_range=self._data_range, reduction="none"))


class StyleDistance(ImageMetric):
    """Distance of features from a style's Gram matrices (``StyleLoss``): 0 is the style itself.

    Args:
        targets: layer -> (C, C) Gram matrix, from ``fastgan.losses.style_grams``.

    Example:
        >>> import torch
        >>> from fastgan import metrics
        >>> features = {"relu1_1": torch.rand(2, 4, 8, 8)}
        >>> metric = metrics.StyleDistance({"relu1_1": torch.zeros(4, 4) + torch.eye(4)})
        >>> metric.update(features)
        >>> bool(metric.compute() > 0)
        True
    """

    def __init__(self, targets: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.loss = StyleLoss(targets)

    @torch.no_grad()
    def update(self, features: Mapping[str, Tensor]) -> None:
        """Add images by their features, layer -> (N, C, H, W)."""
        self._add(self.loss(features, reduction="none"))


class ContentDistance(ImageMetric):
    """Relative squared distance of features of result and content (``ContentLoss``): 0 is the content itself.

    Example:
        >>> import torch
        >>> from fastgan import metrics
        >>> metric, content = metrics.ContentDistance(), torch.ones(1, 4, 8, 8)
        >>> metric.update(1.5 * content, content)
        >>> metric.compute()
        tensor(0.2500, dtype=torch.float64)
    """

    @torch.no_grad()
    def update(self, result: Tensor, content: Tensor) -> None:
        """Add images by their features, (N, C, H, W) each."""
        self._add(ContentLoss()(result, content, reduction="none"))
