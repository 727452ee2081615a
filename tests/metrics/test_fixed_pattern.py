"""A pattern that is laid over every photograph alike."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgan.metrics import FixedPattern


@pytest.fixture
def photographs(rng: torch.Generator) -> Tensor:
    return torch.rand(4, 3, 40, 52, generator=rng)


def test_a_painting_laid_over_photographs(photographs: Tensor, rng: torch.Generator) -> None:
    """At 60% nothing else of it shows in what is added; that it differs from photograph to photograph does."""
    painting = torch.rand(1, 3, 40, 52, generator=rng)
    metric = FixedPattern()
    metric.update(0.4 * photographs + 0.6 * painting, photographs)
    # What a fit by another photograph's three channels takes from it is four of 40 * 52 dimensions.
    assert min(metric.values) > 1 - 8 / math.sqrt(40 * 52)
    metric.reset()
    metric.update(0.4 * photographs + 0.6 * torch.rand(4, 3, 40, 52, generator=rng), photographs)
    assert max(map(abs, metric.values)) < 8 / math.sqrt(3 * 40 * 52)  # of independent noise: eight standard errors


def test_a_color_filter_adds_nothing(photographs: Tensor) -> None:
    """Another mix of the photograph's channels is a linear fit of it, and so is the photograph."""
    mix = torch.tensor([[0.2, 0.7, 0.1], [0.5, -0.1, 0.4], [0.3, 0.3, 0.3]])
    gray = photographs.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    metric = FixedPattern()
    for result, photograph in ((photographs, photographs), (gray, gray), (0.1 + 0.8 * gray, gray)):
        metric.update(result, photograph)
    metric.update(torch.einsum("ij,njhw->nihw", mix, photographs) + 0.05, photographs)
    assert metric.values == [0.0] * 16


def test_by_numpy(photographs: Tensor, rng: torch.Generator) -> None:
    painting = torch.rand(1, 3, 40, 52, generator=rng)
    results = 0.5 * photographs.square() + 0.2 * painting + 0.3 * torch.rand(4, 3, 40, 52, generator=rng)
    metric = FixedPattern()
    sizes = [(40, 52), (40, 30), (33, 52), (40, 52)]
    residuals = []
    for result, photograph, (height, width) in zip(results, photographs, sizes, strict=True):
        pair = [image[None, :, :height, :width] for image in (result, photograph)]
        metric.update(*pair)
        y, x = (image[0].reshape(3, -1).T.double().numpy() for image in pair)
        design = np.concatenate([x, np.ones((len(x), 1))], axis=1)
        fit, *_ = np.linalg.lstsq(design, y, rcond=None)
        residuals.append((y - design @ fit).reshape(height, width, 3))
    want = np.zeros((4, 4))
    for i in range(4):
        for j in range(4):
            height, width = np.minimum(sizes[i], sizes[j])
            a, b = (r[:height, :width] - r[:height, :width].mean((0, 1)) for r in (residuals[i], residuals[j]))
            want[i, j] = np.sum(a * b) / np.sqrt(np.sum(a**2) * np.sum(b**2))
    means = (want.sum(1) - 1) / 3
    # Residuals in float32, of two pictures; sums of 3 * 40 * 52 products.
    assert metric.values == pytest.approx(means, rel=0, abs=1e-4) and means.min() > 0.05
    assert metric.compute().item() == pytest.approx(means.mean(), abs=1e-4)


def test_pairs_within_memory(photographs: Tensor, rng: torch.Generator) -> None:
    """With a memory of one each picture is compared with its neighbors."""
    results = photographs + torch.rand(photographs.shape, generator=rng)
    results[2] = results[1] - photographs[1] + photographs[2]
    short, pair = FixedPattern(memory=1), FixedPattern()
    short.update(results, photographs)
    pair.update(results[:2], photographs[:2])
    assert short.values[0] == pytest.approx(pair.values[0]) and short.values[2] > 0.4 > abs(short.values[3])
    with pytest.raises(ValueError, match="memory must be 1 or more"):
        FixedPattern(0)


def test_refused(photographs: Tensor) -> None:
    metric = FixedPattern()
    metric.update(photographs[:1], photographs[:1])
    with pytest.raises(ValueError, match="two pictures or more, got 1"):
        metric.compute()
    with pytest.raises(ValueError, match="of one shape"):
        metric.update(photographs, photographs[..., :8])
