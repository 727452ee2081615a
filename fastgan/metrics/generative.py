"""Metrics of images generated from noise, from VGG features of generated and real images (SPEC S1, S19)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

#: Smallest scale of a dimension, as a share of the mean deviation: otherwise a channel that is nearly dead on real
#: images would dominate (one distance was 10^9 where others were 10).
_MIN_SCALE_RATIO = 0.1
#: Side, in cells, to which images are reduced for ``batch_diversity``.
_CELLS = 8


def pooled_features(features: Mapping[str, Tensor]) -> Tensor:
    """Mean and standard deviation over positions of every channel, the layers one after another.

    Args:
        features: layer -> (N, C, H, W), the same N in all.

    Returns:
        (N, D) float32 with D twice the sum of C: the means, then the deviations, of each layer.

    Raises:
        ValueError: no layers, or one that is not (N, C, H, W) with the N of the first.

    Example:
        >>> import torch
        >>> from fastgan import metrics
        >>> metrics.pooled_features({"relu1_1": torch.ones(5, 4, 8, 8), "relu2_1": torch.ones(5, 16, 4, 4)}).shape
        torch.Size([5, 40])
    """
    if not features:
        raise ValueError("features must have a layer or more, got none")
    parts: list[Tensor] = []
    for layer, maps in features.items():
        if maps.dim() != 4 or maps.numel() == 0 or (parts and len(maps) != len(parts[0])):
            expected = f"({len(parts[0])}, C, H, W)" if parts else "a non-empty (N, C, H, W)"
            raise ValueError(f"features of {layer!r} must be {expected}, got shape {tuple(maps.shape)}")
        x32 = maps if maps.dtype == torch.float64 else maps.float()
        variance, mean = torch.var_mean(x32, (2, 3), correction=0)
        parts += [mean, variance.sqrt()]
    return torch.cat([part.float() for part in parts], 1)


class _StandardizedFeatures:
    """Base of metrics on features of generated images, standardized by those of real images; float64 on the CPU."""

    def __init__(self, reference: Tensor) -> None:
        if reference.dim() != 2 or len(reference) < 2:
            raise ValueError(f"reference must be (M, D) of 2 or more images, got shape {tuple(reference.shape)}")
        real = reference.detach().cpu().double()
        if not real.isfinite().all():
            raise ValueError("reference must be finite, got NaN or infinite features")
        std = real.std(0, correction=0)
        self._mean, self._scale = real.mean(0), std.clamp_min(_MIN_SCALE_RATIO * std.mean().item())
        if not (self._scale > 1e-9 * real.abs().amax()).all():
            raise ValueError(f"reference must be of images that differ, got {len(real)} times the same features")
        self._reference = self._standardize(real)
        self._batches: list[Tensor] = []

    def _standardize(self, features: Tensor) -> Tensor:
        return (features - self._mean) / self._scale

    def reset(self) -> None:
        """Forget every generated image; the reference stays."""
        self._batches = []

    def update(self, features: Tensor) -> None:
        """Add generated images by their pooled features, (N, D). Raises ValueError for a D not the reference's."""
        if features.dim() != 2 or features.shape[1] != len(self._mean):
            raise ValueError(f"features must be (N, {len(self._mean)}), got shape {tuple(features.shape)}")
        self._batches.append(self._standardize(features.detach().cpu().double()))

    def _generated(self) -> Tensor:
        count = sum(map(len, self._batches))
        if count < 2:
            raise ValueError(f"{type(self).__name__}.compute() needs 2 generated images or more, got {count}")
        return torch.cat(self._batches)


class KID(_StandardizedFeatures):
    """Kernel Inception distance (Binkowski et al. 2018) on VGG features in place of Inception features.

    The unbiased squared maximum mean discrepancy of generated and real images. The kernel is (x.y / D + 1)^3 on pooled
    features standardized by the mean and standard deviation of ``reference``, where
    a deviation counts as no less than a tenth of their mean. About 0, and by chance below it, for images of one
    distribution. Only values against the same reference can be compared.

    Args:
        reference: (M, D) ``pooled_features`` of real images.

    Raises:
        ValueError: ``reference`` is not finite (M, D) with M 2 or more, not all the same.

    Example:
        >>> import torch
        >>> from fastgan import metrics
        >>> real = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
        >>> metric = metrics.KID(real)
        >>> metric.update(real + 2.0)
        >>> bool(metric.compute() > 1)
        True
    """

    def compute(self) -> Tensor:
        """Over the images seen, a float64 scalar. Raises ValueError for fewer than 2 of them."""
        fake, real = self._generated(), self._reference
        return (
            _mean_of_pairs(_kernel(fake, fake)) + _mean_of_pairs(_kernel(real, real)) - 2 * _kernel(fake, real).mean()
        )


class Diversity(_StandardizedFeatures):
    """Diversity of generated images: 1 for that of real images, 0 for identical images.

    The mean Euclidean distance of two generated images over that of two of ``reference``, in features standardized as
    in ``KID``.

    Args:
        reference: (M, D) ``pooled_features`` of real images.

    Raises:
        ValueError: ``reference`` is not finite (M, D) with M 2 or more, not all the same.

    Example:
        >>> import torch
        >>> from fastgan import metrics
        >>> real = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
        >>> metric = metrics.Diversity(real)
        >>> metric.update(0.5 * real)
        >>> metric.compute().round(decimals=6)
        tensor(0.5000, dtype=torch.float64)
    """

    def compute(self) -> Tensor:
        """Over the images seen, a float64 scalar. Raises ValueError for fewer than 2 of them."""
        return torch.pdist(self._generated()).mean() / torch.pdist(self._reference).mean()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _mean_of_pairs(kernel: Tensor) -> Tensor:
    # Excluding the kernel of an image with itself makes the estimate unbiased.
    count = len(kernel)
    return (kernel.sum() - kernel.trace()) / (count * (count - 1))


@torch.no_grad()
def batch_diversity(images: Tensor, reference: Tensor) -> Tensor:
    """Diversity of a batch of images relative to ``reference``.

    The ratio of their standard deviations over the batch, averaged over the pixels of images reduced to 8 x 8 by area:
    1 for the diversity of the reference, 0 for identical images.

    Args:
        images, reference: (N, C, H, W) on one device; N, H and W may differ.

    Returns:
        A float32 scalar; NaN when either batch has one image alone.

    Raises:
        ValueError: either is not (N, C, H, W), or the channels differ.

    Example:
        >>> import torch
        >>> from fastgan import metrics
        >>> images = torch.rand(4, 3, 16, 16)
        >>> metrics.batch_diversity(images / 2, images).round(decimals=4)
        tensor(0.5000)
    """
    if images.dim() != 4 or reference.dim() != 4 or images.shape[1] != reference.shape[1]:
        raise ValueError(
            f"images and reference must be (N, C, H, W) of the same C, "
            f"got {tuple(images.shape)} and {tuple(reference.shape)}"
        )
    if len(images) < 2 or len(reference) < 2:
        return torch.full((), math.nan, dtype=torch.float32, device=images.device)
    return _deviation(images) / _deviation(reference)


def _deviation(images: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(images.float(), _CELLS).std(0).mean()
