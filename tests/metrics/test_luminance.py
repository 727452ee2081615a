"""Light and dark, by SciPy."""

import importlib

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgan.metrics import LuminanceCorrelation


@pytest.fixture
def photographs(rng: torch.Generator) -> Tensor:
    return torch.rand(2, 3, 70, 50, generator=rng)


def test_by_scipy(photographs: Tensor, rng: torch.Generator) -> None:
    ndimage = importlib.import_module("scipy.ndimage")
    results = 0.7 * photographs + 0.3 * torch.rand(photographs.shape, generator=rng)
    metric = LuminanceCorrelation()
    metric.update(results, photographs)
    want = []
    for pair in zip(results.double().numpy(), photographs.double().numpy(), strict=True):
        blurred = [ndimage.gaussian_filter(np.tensordot([0.299, 0.587, 0.114], image, 1), 8.0) for image in pair]
        want.append(np.corrcoef(*(image.ravel() for image in blurred))[0, 1])
    assert metric.values == pytest.approx(want, abs=1e-9)
    assert 0 < metric.compute() < 1


def test_known_values(photographs: Tensor) -> None:
    metric = LuminanceCorrelation()
    metric.update(0.2 + 0.5 * photographs, photographs)  # flatter and brighter, and light where it was light
    metric.update(1 - photographs, photographs)
    metric.update(torch.full_like(photographs, 0.3), photographs)
    assert metric.values == pytest.approx([1, 1, -1, -1, 0, 0], abs=1e-4)


def test_a_face_turned_black() -> None:
    """Blurring hides a texture, and shows a light part that became dark."""
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    face = 0.2 + 0.7 * (((x - 48) ** 2 + (y - 48) ** 2) < 30**2).float().expand(1, 3, 96, 96)
    metric = LuminanceCorrelation()
    metric.update(face + 0.2 * ((x + y) % 4 < 2), face)
    metric.update(0.2 + (0.9 - face), face)
    assert metric.values[0] > 0.99 and metric.values[1] < -0.99


def test_refused(photographs: Tensor) -> None:
    with pytest.raises(ValueError, match="of one shape"):
        LuminanceCorrelation().update(photographs, photographs[:1])
