"""Base of the metrics with state: one value an image, in the manner of torchmetrics."""

from __future__ import annotations

import torch
from torch import Tensor


class ImageMetric:
    """One value an image; ``compute`` is their mean."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def reset(self) -> None:
        """Forget every image."""
        self.values = []

    def compute(self) -> Tensor:
        """Mean over the images seen, a float64 scalar. Raises ValueError before the first ``update``."""
        if not self.values:
            raise ValueError(f"{type(self).__name__}.compute() before any update()")
        return torch.tensor(self.values, dtype=torch.float64).mean()

    def _add(self, values: Tensor) -> None:
        self.values.extend(values.detach().double().reshape(-1).tolist())


def check_pair(x: Tensor, y: Tensor) -> None:
    """Raise ValueError for two that are not both (N, 3, H, W) of one shape."""
    if x.shape != y.shape or x.dim() != 4 or x.shape[1] != 3 or x.numel() == 0:
        raise ValueError(f"expected two (N, 3, H, W) of one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
