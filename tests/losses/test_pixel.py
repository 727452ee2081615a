"""Losses on pixels against scikit-image and formulas."""

import importlib
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.bounds import approx, assert_close, rounding
from helpers.observed_step import luminance_difference
from helpers.quality_bounds import psnr_error, ssim_error
from torch import Tensor

from fastgan.losses import LuminanceLoss, PSNRLoss, SSIMLoss, TotalVariation


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
    # The way to [0, 1] and the difference from 1 are rounded too.
    units = [(value + 1) / 2 for value in pair]
    assert SSIMLoss()(*pair).item() == pytest.approx(1 - want, rel=0, abs=ssim_error(*units) + rounding(steps=2))
    same = ssim_error(units[0], units[0]) + rounding(steps=2)
    assert SSIMLoss()(pair[0], pair[0]).item() == pytest.approx(0, abs=same)


def test_psnr_loss(pair: tuple[Tensor, Tensor]) -> None:
    metrics = importlib.import_module("skimage.metrics")
    x, y = map(unit, pair)
    want = np.mean([metrics.peak_signal_noise_ratio(a, b, data_range=1.0) for a, b in zip(x, y, strict=True)])
    # The way to [0, 1] rounds both images, by which their difference is off by a share of its size.
    difference = np.sqrt(np.mean((x - y) ** 2))
    shift = 20 / math.log(10) * rounding(steps=2) / difference
    assert PSNRLoss()(*pair).item() == pytest.approx(-want / 20, rel=0, abs=(psnr_error(pair[0]) + shift) / 20)


def test_structure_losses_pull_toward_the_content(pair: tuple[Tensor, Tensor]) -> None:
    for loss in (SSIMLoss(), PSNRLoss()):
        result = pair[1].clone().requires_grad_()
        before = loss(result, pair[0])
        (gradient,) = torch.autograd.grad(before, result)
        assert loss(result - 0.05 * gradient / gradient.abs().max(), pair[0]) < before


def test_total_variation(pair: tuple[Tensor, Tensor]) -> None:
    x = pair[0].double().numpy()
    want = np.mean(np.diff(x, axis=2) ** 2) + np.mean(np.diff(x, axis=3) ** 2)
    assert TotalVariation()(pair[0]).item() == approx(want, terms=pair[0].numel(), steps=3)
    assert TotalVariation()(torch.full((1, 3, 5, 5), 0.3)).item() == 0
    ramp = torch.arange(5.0).view(1, 1, 1, 5).expand(1, 1, 4, 5)
    assert TotalVariation()(ramp).item() == 1 == TotalVariation()(ramp.transpose(2, 3)).item()


def test_luminance_loss(rng: torch.Generator) -> None:
    """Against the formula, cell by cell; pixels beyond the last whole cell do not count."""
    x, y = (torch.rand(3, 3, 32, 24, generator=rng) * 2 - 1 for _ in range(2))
    wide = [F.pad(images, (0, 3, 0, 5), value=0.7) for images in (x, y)]
    for pair in ((x, y), wide):
        have = LuminanceLoss()(*pair, reduction="none")
        assert_close(have, luminance_difference(x, y), steps=8, terms=64)
        assert LuminanceLoss()(*pair).item() == approx(have.mean().item(), steps=3)


def test_luminance_loss_sees_shadows_and_no_brush_marks() -> None:
    """Brightness and a contrast of half to twice the photograph's are free, and so is what is finer than a cell."""
    loss = LuminanceLoss()
    photo = torch.linspace(-0.5, 0.5, 64).expand(1, 3, 64, 64)
    for free in (photo, photo + 0.3, 0.5 * photo, 1.9 * photo - 0.1):
        assert loss(free, photo).item() == pytest.approx(0, abs=1e-10)
    marks = photo.clone()
    marks[..., ::2, ::2], marks[..., 1::2, ::2] = marks[..., ::2, ::2] + 0.2, marks[..., 1::2, ::2] - 0.2
    assert loss(marks, photo).item() == pytest.approx(0, abs=1e-10)
    shadow = photo.clone()
    shadow[..., :24, :24] -= 0.6
    costly = [loss(result, photo).item() for result in (shadow, -photo, torch.zeros_like(photo), 4 * photo)]
    assert min(costly) > 0.01
    sky = torch.full_like(photo, 0.4)
    assert loss(sky, sky).item() < 1e-10 and loss(sky - photo + shadow, sky).item() > 0.05


def test_luminance_loss_pulls_toward_the_content(rng: torch.Generator) -> None:
    photo = torch.rand(2, 3, 32, 32, generator=rng) * 2 - 1
    result = torch.rand(2, 3, 32, 32, generator=rng).requires_grad_()
    before = LuminanceLoss()(result, photo)
    (gradient,) = torch.autograd.grad(before, result)
    assert LuminanceLoss()(result - 0.05 * gradient / gradient.abs().max(), photo) < before
