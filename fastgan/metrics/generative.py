"""How images made from noise compare with real ones (SPEC S1, S19), from features of both."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

#: A dimension that hardly varies among real images is scaled by this share of the mean deviation, not by its own: a
#: channel that is all but dead there would otherwise rule (it made one distance 10^9 where others made 10).
_FLOOR = 0.1
#: Side, in cells, that images are reduced to before their variety is taken.
_CELLS = 8


def pooled_features(features: Mapping[str, Tensor]) -> Tensor:
    """Mean and standard deviation over positions of every channel, the layers one after another.

    Args:
        features: layer -> (N, C, H, W), the same N in all.

    Returns:
        (N, D) float32 with D twice the sum of C: the means, then the deviations, of each layer.

    Raises:
        ValueError: no layers, or one that is not (N, C, H, W) with the N of the first.
    """
    if not features:
        raise ValueError("features must have a layer or more, got none")
    parts: list[Tensor] = []
    for layer, maps in features.items():
        if maps.dim() != 4 or maps.numel() == 0 or (parts and len(maps) != len(parts[0])):
            wanted = f"({len(parts[0])}, C, H, W)" if parts else "a non-empty (N, C, H, W)"
            raise ValueError(f"features of {layer!r} must be {wanted}, got shape {tuple(maps.shape)}")
        wide = maps if maps.dtype == torch.float64 else maps.float()
        variance, mean = torch.var_mean(wide, (2, 3), correction=0)
        parts += [mean, variance.sqrt()]
    return torch.cat([part.float() for part in parts], 1)


class _Standardised:
    """Features of generated images, standardised by those of real ones; float64 on the CPU."""

    def __init__(self, reference: Tensor) -> None:
        if reference.dim() != 2 or len(reference) < 2:
            raise ValueError(f"reference must be (M, D) of 2 or more images, got shape {tuple(reference.shape)}")
        wide = reference.detach().cpu().double()
        if not wide.isfinite().all():
            raise ValueError("reference must be finite, got NaN or infinite features")
        std = wide.std(0, correction=0)
        self._mean, self._scale = wide.mean(0), std.clamp_min(_FLOOR * std.mean().item())
        if not (self._scale > 1e-9 * wide.abs().amax()).all():
            raise ValueError(f"reference must be of images that differ, got {len(wide)} times the same features")
        self._reference = self._standardise(wide)
        self._batches: list[Tensor] = []

    def _standardise(self, wide: Tensor) -> Tensor:
        return (wide - self._mean) / self._scale

    def reset(self) -> None:
        """Forget every generated image; the reference stays."""
        self._batches = []

    def update(self, features: Tensor) -> None:
        """Add generated images by their pooled features, (N, D). Raises ValueError for a D not the reference's."""
        if features.dim() != 2 or features.shape[1] != len(self._mean):
            raise ValueError(f"features must be (N, {len(self._mean)}), got shape {tuple(features.shape)}")
        self._batches.append(self._standardise(features.detach().cpu().double()))

    def _generated(self) -> Tensor:
        count = sum(map(len, self._batches))
        if count < 2:
            raise ValueError(f"{type(self).__name__}.compute() needs 2 generated images or more, got {count}")
        return torch.cat(self._batches)


class KernelDistance(_Standardised):
    """Squared maximum mean discrepancy of generated and real images (Binkowski et al. 2018, "KID"), unbiased.

    The kernel is (x.y / D + 1)^3 on features standardised by the mean and standard deviation of ``reference``, where
    a deviation counts as no less than a tenth of their mean. About 0, and by chance below it, for images of one
    distribution. Only values against the same reference can be compared.

    Args:
        reference: (M, D) ``pooled_features`` of real images.

    Raises:
        ValueError: ``reference`` is not finite (M, D) with M 2 or more, not all the same.
    """

    def compute(self) -> Tensor:
        """Over the images seen, a float64 scalar. Raises ValueError for fewer than 2 of them."""
        fake, real = self._generated(), self._reference
        return (
            _mean_of_pairs(_kernel(fake, fake)) + _mean_of_pairs(_kernel(real, real)) - 2 * _kernel(fake, real).mean()
        )


class Spread(_Standardised):
    """How varied generated images are: 1 as real ones, 0 all the same.

    The mean Euclidean distance of two generated images over that of two of ``reference``, in features standardised as
    in ``KernelDistance``.

    Args:
        reference: (M, D) ``pooled_features`` of real images.

    Raises:
        ValueError: ``reference`` is not finite (M, D) with M 2 or more, not all the same.
    """

    def compute(self) -> Tensor:
        """Over the images seen, a float64 scalar. Raises ValueError for fewer than 2 of them."""
        return torch.pdist(self._generated()).mean() / torch.pdist(self._reference).mean()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _mean_of_pairs(kernel: Tensor) -> Tensor:
    # Without an image's kernel with itself: that is what makes the estimate unbiased.
    count = len(kernel)
    return (kernel.sum() - kernel.trace()) / (count * (count - 1))


@torch.no_grad()
def batch_spread(images: Tensor, reference: Tensor) -> Tensor:
    """How much the images of a batch differ from one another, over how much those of ``reference`` do.

    That is the standard deviation over the batch, averaged over the pixels, of images reduced to 8 x 8 by area:
    1 as varied as the reference, 0 all the same.

    Args:
        images, reference: (N, C, H, W) on one device; N, H and W may differ.

    Returns:
        A float32 scalar; NaN when either batch has one image alone.

    Raises:
        ValueError: either is not (N, C, H, W), or the channels differ.
    """
    if images.dim() != 4 or reference.dim() != 4 or images.shape[1] != reference.shape[1]:
        raise ValueError(
            f"images and reference must be (N, C, H, W) of the same C, "
            f"got {tuple(images.shape)} and {tuple(reference.shape)}"
        )
    if len(images) < 2 or len(reference) < 2:
        return torch.full((), math.nan, device=images.device)
    return _deviation(images) / _deviation(reference)


def _deviation(images: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(images.float(), _CELLS).std(0).mean()
