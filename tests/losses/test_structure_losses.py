"""Losses on pixels against scikit-image and formulas."""

import importlib

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgan.losses import PSNRLoss, SSIMLoss, TotalVariation


@pytest.fixture
def pair(rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """(2, 3, 24, 31) each in [-1, 1], alike but not the same."""
    x = torch.rand(2, 3, 24, 31, generator=rng) * 1.6 - 0.8
    return x, (x + 0.3 * torch.randn(x.shape, generator=rng)).clamp(-1, 1)


def unit(x: Tensor) -> np.ndarray:
    return ((x.double() + 1) / 2).numpy()


def test_ssim_loss(pair: tuple[Tensor, Tensor]) -> None:
    metrics = importlib.import_module("skimage.metrics")
    x, y = map(unit, pair)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    want = np.mean([metrics.structural_similarity(a, b, channel_axis=0, **options) for a, b in zip(x, y, strict=True)])
    assert SSIMLoss()(*pair).item() == pytest.approx(1 - want, abs=1e-5)
    assert SSIMLoss()(pair[0], pair[0]).item() == pytest.approx(0, abs=1e-6)


def test_psnr_loss(pair: tuple[Tensor, Tensor]) -> None:
    metrics = importlib.import_module("skimage.metrics")
    x, y = map(unit, pair)
    want = np.mean([metrics.peak_signal_noise_ratio(a, b, data_range=1.0) for a, b in zip(x, y, strict=True)])
    assert PSNRLoss()(*pair).item() == pytest.approx(-want / 20, rel=1e-5)


def test_structure_losses_pull_towards_the_content(pair: tuple[Tensor, Tensor]) -> None:
    for loss in (SSIMLoss(), PSNRLoss()):
        result = pair[1].clone().requires_grad_()
        before = loss(result, pair[0])
        (gradient,) = torch.autograd.grad(before, result)
        assert loss(result - 0.05 * gradient / gradient.abs().max(), pair[0]) < before


def test_total_variation(pair: tuple[Tensor, Tensor]) -> None:
    x = pair[0].double().numpy()
    want = np.mean(np.diff(x, axis=2) ** 2) + np.mean(np.diff(x, axis=3) ** 2)
    assert TotalVariation()(pair[0]).item() == pytest.approx(want, rel=1e-5)
    assert TotalVariation()(torch.full((1, 3, 5, 5), 0.3)).item() == 0
    ramp = torch.arange(5.0).view(1, 1, 1, 5).expand(1, 1, 4, 5)
    assert TotalVariation()(ramp).item() == 1 == TotalVariation()(ramp.transpose(2, 3)).item()
