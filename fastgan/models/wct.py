"""Whitening and coloring of features (Li et al. 2017), by the linear map that moves them least (Lu et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from fastgan.precision import autocast

#: Added to every eigenvalue of a covariance, as a share of their mean: directions in which a content hardly varies are
#: mostly noise, which whitening would raise to the style's contrast.
EIGENVALUE_FLOOR = 1e-2


def mean_and_covariance(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (N, C, 1, 1) and biased covariance (N, C, C) of the channels of features (N, C, H, W), over positions."""
    with autocast(x.device, torch.float32):
        mean = x.mean((2, 3), keepdim=True)
        centered = (x - mean).flatten(2)
        return mean, centered @ centered.mT / centered.shape[2]


@torch.no_grad()
def covariance_root(covariance: Tensor) -> Tensor:
    """The symmetric square root of covariances (..., C, C)."""
    values, vectors = torch.linalg.eigh(covariance.double())
    return _compose(values.clamp_min(0).sqrt(), vectors).to(covariance.dtype)


@torch.no_grad()
def transport_map(covariance: Tensor, style_root: Tensor) -> Tensor:
    """The symmetric linear map that gives features the covariance of a style.

    Among all such maps it changes features least: the optimal transport between two normal distributions. The identity
    where both covariances are the same.

    Args:
        covariance: of the content, (N, C, C).
        style_root: ``covariance_root`` of the style's, (N, C, C).

    Returns:
        (N, C, C) in the dtype of ``covariance``. No gradient passes.
    """
    values, vectors = torch.linalg.eigh(_floored(covariance.double()))
    root, inverse = (_compose(part, vectors) for part in (values.sqrt(), values.rsqrt()))
    style = style_root.double()
    values, vectors = torch.linalg.eigh(root @ _floored(style @ style.mT) @ root)
    middle = _compose(values.clamp_min(0).sqrt(), vectors)
    return (inverse @ middle @ inverse).to(covariance.dtype)


def transform(x: Tensor, mean: Tensor, matrix: Tensor, style_mean: Tensor, alpha: float | Tensor) -> Tensor:
    """Move features a share of the way to a style: x + alpha * (matrix (x - mean) + style_mean - x).

    Args:
        x: (N, C, H, W).
        mean, style_mean: (N, C, 1, 1).
        matrix: (N, C, C), ``transport_map``.
        alpha: a number, or (N,) for one an image.
    """
    with autocast(x.device, torch.float32):
        share = alpha.to(x.dtype).view(-1, 1, 1) if isinstance(alpha, Tensor) else alpha
        identity = torch.eye(matrix.shape[-1], dtype=x.dtype, device=x.device)
        # In one pass over the features, which are large and the matrices not.
        shift = share * (style_mean.flatten(2) - matrix @ mean.flatten(2))
        return torch.baddbmm(shift, identity + share * (matrix - identity), x.flatten(2)).view_as(x)


def _floored(covariance: Tensor) -> Tensor:
    level = covariance.diagonal(dim1=-2, dim2=-1).mean(-1)
    # A plane without any variance has no scale of its own.
    floor = (EIGENVALUE_FLOOR * level).clamp_min(torch.finfo(torch.float32).tiny)
    return covariance + torch.diag_embed(floor[..., None].expand(covariance.shape[:-1]))


def _compose(values: Tensor, vectors: Tensor) -> Tensor:
    return (vectors * values[..., None, :]) @ vectors.mT
