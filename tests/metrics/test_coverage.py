"""Coverage and the style distance of windows: pictures whose right values are known, and NumPy."""

import numpy as np
import pytest
import torch
from helpers.quality_bounds import approx_style_distance
from torch import Tensor

from fastgan.losses import style_grams
from fastgan.metrics.coverage import (
    Coverage,
    covered_windows,
    crop_windows,
    style_window_median,
    window_style_distances,
)
from fastgan.models import VGGEncoder

LAYERS = ("relu1_1", "relu2_1")


@pytest.fixture(scope="module")
def encoder() -> VGGEncoder:
    return VGGEncoder(LAYERS, "random")


def texture(height: int, width: int, seed: int) -> Tensor:
    """The same everywhere: noise, as a style of one brush is."""
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def gradient(height: int, width: int) -> Tensor:
    """A photograph of little: light from left to right, and from above."""
    x, y = torch.linspace(-0.9, 0.9, width), torch.linspace(-0.5, 0.5, height)[:, None]
    return torch.stack([x.expand(height, -1), (x + y) / 2, y.expand(-1, width)])[None].contiguous()


def measured(encoder: VGGEncoder, result: Tensor, photograph: Tensor, style: Tensor) -> tuple[Tensor, float]:
    """The windows that carry the style, and ``Coverage``."""
    targets = style_grams(encoder, [style], LAYERS)
    windows, before = (window_style_distances(encoder, image, targets) for image in (result, photograph))
    median = style_window_median(encoder, [style], targets)
    metric = Coverage(median)
    metric.update(windows, before)
    return covered_windows(windows, before, median), metric.compute().item()


def test_half_of_a_picture(encoder: VGGEncoder) -> None:
    """Columns of windows begin at 0, 48, ..., 288: three lie left of the middle, one across it, three right of it."""
    photograph, style = gradient(192, 384), texture(192, 240, 1)
    result = photograph.clone()
    result[..., 192:] = texture(192, 192, 2)
    covered, coverage = measured(encoder, result, photograph, style)
    assert covered.shape == (3, 7)
    assert not covered[:, :3].any() and covered[:, 4:].all()
    assert coverage == covered.double().mean() and 3 / 7 <= coverage <= 4 / 7


def test_a_photograph_and_the_style(encoder: VGGEncoder) -> None:
    photograph, style = gradient(144, 192), texture(144, 192, 1)
    assert measured(encoder, photograph, photograph, style)[1] == 0
    assert measured(encoder, style, photograph, style)[1] == 1


def test_by_numpy(encoder: VGGEncoder) -> None:
    """Each crop encoded by itself, its Gram matrices and the median by NumPy in float64."""
    photograph, style = gradient(150, 200), texture(120, 170, 1)
    result = 0.5 * photograph + 0.5 * texture(150, 200, 2)
    targets = style_grams(encoder, [style], LAYERS)
    got = {
        name: window_style_distances(encoder, image, targets)
        for name, image in (("photograph", photograph), ("result", result), ("style", style))
    }

    def grams(image: Tensor) -> list[np.ndarray]:
        features = [f[0].flatten(1).double().numpy() for f in encoder(image).values()]
        return [f @ f.T / f.shape[1] for f in features]

    whole = grams(style)
    want = {}
    for name, image in (("photograph", photograph), ("result", result), ("style", style)):
        height, width = image.shape[2:]
        tops, lefts = range(0, height - 95, 48), range(0, width - 95, 48)
        want[name] = np.empty((len(tops), len(lefts)))
        for place in np.ndindex(want[name].shape):
            top, left = tops[place[0]], lefts[place[1]]
            crop = image[..., top : top + 96, left : left + 96].clone()
            ratios = [np.sum((g - s) ** 2) / np.sum(s**2) for g, s in zip(grams(crop), whole, strict=True)]
            want[name][place] = np.mean(ratios)
            assert got[name][place].item() == approx_style_distance(want[name][place], encoder, 170 * 120)
        assert got[name].shape == want[name].shape
    median = style_window_median(encoder, [style], targets)
    assert median == approx_style_distance(float(np.median(want["style"])), encoder, 170 * 120)
    way = np.maximum(want["photograph"] - np.median(want["style"]), 0)
    share = np.mean(want["result"] < want["photograph"] - way / 2)
    metric = Coverage(median)
    metric.update(got["result"], got["photograph"])
    assert metric.values == [share]


def test_windows_are_crops() -> None:
    image = torch.arange(3 * 150 * 260.0).reshape(1, 3, 150, 260)
    windows = crop_windows(image)
    assert windows.shape == (2, 4, 3, 96, 96)
    assert torch.equal(windows[1, 2], image[0, :, 48:144, 96:192])
    assert crop_windows(image[..., :40, :]).shape == (1, 4, 3, 40, 96)
    assert torch.equal(crop_windows(image[..., :40, :50])[0, 0], image[0, :, :40, :50])
    assert torch.equal(crop_windows(image, step=96), windows[::2, ::2])


def test_a_window_knows_nothing_of_what_surrounds_it(encoder: VGGEncoder) -> None:
    """Slices of the whole picture's features would."""
    window = gradient(96, 96)
    targets = style_grams(encoder, [texture(96, 96, 1)], LAYERS)
    around = torch.cat([window, torch.ones(1, 3, 96, 48)], 3)
    alone, beside = (window_style_distances(encoder, image, targets) for image in (window, around))
    assert beside.shape == (1, 2)
    assert beside[0, 0].item() == approx_style_distance(alone.item(), encoder, 96 * 96)


def test_half_of_the_way() -> None:
    """From 1.0 down to a median of 0.2 the half is at 0.6; from 0.1 there is no way, and nearer than that is style."""
    photograph = torch.tensor([[1.0, 1.0, 0.1, 0.1]])
    result = torch.tensor([[0.59, 0.61, 0.09, 0.11]])
    assert covered_windows(result, photograph, 0.2).tolist() == [[True, False, True, False]]
    assert not covered_windows(photograph, photograph, 0.2).any()
    metric = Coverage(0.2)
    metric.update(result, photograph)
    metric.update(photograph * 0, photograph)
    assert metric.values == [0.5, 1] and metric.compute() == 0.75
    with pytest.raises(ValueError, match=r"same windows, got \(1, 4\) and \(1, 2\)"):
        metric.update(photograph, photograph[:, :2])
    with pytest.raises(ValueError, match=r"\(1, C, H, W\), got shape \(2, 3, 8, 8\)"):
        crop_windows(torch.zeros(2, 3, 8, 8))
