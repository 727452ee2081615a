"""Metrics with state: update, compute, reset."""

import importlib
import math

import numpy as np
import pytest
import torch
from helpers.bounds import rounding
from helpers.quality_bounds import psnr_error, ssim_error

from fastgan.losses import style_grams
from fastgan.metrics import PSNR, SSIM, ContentDistance, StyleDistance
from fastgan.models import VGGEncoder


@pytest.fixture
def images(rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand(5, 3, 20, 23, generator=rng)
    return x, (x + 0.1 * torch.randn(x.shape, generator=rng)).clamp(0, 1)


@pytest.mark.parametrize("kind", [SSIM, PSNR])
def test_mean_over_all_images_whatever_the_batches(kind: type, images: tuple[torch.Tensor, torch.Tensor]) -> None:
    metrics = importlib.import_module("skimage.metrics")
    x, y = images
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    if kind is SSIM:
        want = [
            metrics.structural_similarity(a, b, channel_axis=0, data_range=1.0, **options)
            for a, b in zip(x.double().numpy(), y.double().numpy(), strict=True)
        ]
    else:
        want = [
            metrics.peak_signal_noise_ratio(a, b, data_range=1.0)
            for a, b in zip(x.double().numpy(), y.double().numpy(), strict=True)
        ]
    errors = [ssim_error(a[None], b[None]) if kind is SSIM else psnr_error(a[None]) for a, b in zip(x, y, strict=True)]
    near = {"rel": 0, "abs": max(errors)}
    metric = kind()
    metric.update(x[:4], y[:4])
    assert metric.compute().item() == pytest.approx(np.mean(want[:4]), **near)
    metric.update(x[4:], y[4:])  # a batch of one weighs one image, not half
    assert metric.compute().item() == pytest.approx(np.mean(want), **near)
    assert metric.values == pytest.approx(want, **near)
    assert metric.compute().dtype == torch.float64
    metric.reset()
    with pytest.raises(ValueError, match=f"{kind.__name__}.compute.. before any update"):
        metric.compute()
    metric.update(x[:1], y[:1])
    assert metric.compute().item() == pytest.approx(want[0], **near)


def test_options(images: tuple[torch.Tensor, torch.Tensor]) -> None:
    metrics = importlib.import_module("skimage.metrics")
    x, y = (255 * value for value in images)
    metric = SSIM(255, window="uniform", window_size=7)
    metric.update(x[:1], y[:1])
    a, b = x[0].double().numpy(), y[0].double().numpy()
    want = metrics.structural_similarity(a, b, channel_axis=0, data_range=255, win_size=7)
    assert metric.compute().item() == pytest.approx(want, rel=0, abs=ssim_error(x[:1], y[:1], 7, 255))
    decibels = PSNR(255)
    decibels.update(x[:1], y[:1])
    want = metrics.peak_signal_noise_ratio(a, b, data_range=255)
    assert decibels.compute().item() == pytest.approx(want, rel=0, abs=psnr_error(x[:1]))


def test_equal_images(images: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, _ = images
    ssim, psnr = SSIM(), PSNR()
    ssim.update(x, x)
    psnr.update(x, x)
    assert ssim.compute().item() == pytest.approx(1, rel=0, abs=ssim_error(x, x)) and math.isinf(psnr.compute().item())


def test_metrics_hold_no_graph(images: tuple[torch.Tensor, torch.Tensor]) -> None:
    x = images[0].clone().requires_grad_()
    metric = SSIM()
    metric.update(x, images[1])
    assert not metric.compute().requires_grad and all(isinstance(value, float) for value in metric.values)


def test_distances_by_features(rng: torch.Generator) -> None:
    encoder = VGGEncoder(("relu1_1", "relu2_1"), "random")
    style = torch.rand(1, 3, 24, 24, generator=rng)
    metric = StyleDistance(style_grams(encoder, [style], ("relu1_1", "relu2_1")))
    x = torch.rand(2, 3, 24, 24, generator=rng) * 0.2
    metric.update(encoder(style))
    least = rounding(24 * 24, 2) ** 2  # two Gram matrices
    assert metric.compute().item() <= least
    metric.update(encoder(x))
    assert len(metric.values) == 3 and min(metric.values[1:]) > least
    metric.reset()
    assert metric.values == []
    content = ContentDistance()
    features = encoder(x)["relu2_1"]
    content.update(features, features)
    content.update(2 * features, features)
    assert content.values == [0, 0, 1, 1]  # twice a number less itself is that number: nothing is rounded differently
