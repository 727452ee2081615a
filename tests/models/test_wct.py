"""Whitening and coloring: moments, roots, and the map between two normal distributions."""

import pytest
import torch
from helpers.bounds import assert_close
from torch import Tensor

from fastgan.models import wct


def covariances(rng: torch.Generator, n: int = 2, channels: int = 8) -> Tensor:
    """Covariances of full rank."""
    mixed = torch.randn(n, channels, channels, generator=rng, dtype=torch.float64)
    return mixed @ mixed.mT + torch.eye(channels, dtype=torch.float64)


def test_moments_are_those_of_the_positions(rng: torch.Generator) -> None:
    x = torch.randn(2, 5, 7, 9, generator=rng) + 3
    mean, covariance = wct.mean_and_covariance(x)
    assert mean.shape == (2, 5, 1, 1) and covariance.shape == (2, 5, 5)
    for image, have_mean, have in zip(x.double(), mean, covariance, strict=True):
        assert_close(have_mean.flatten(), image.mean((1, 2)), terms=63, dtype=torch.float32)
        assert_close(have, torch.cov(image.flatten(1), correction=0), terms=63, steps=3, dtype=torch.float32)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_autocast_does_not_round_them(precision: torch.dtype, rng: torch.Generator) -> None:
    x = torch.randn(1, 4, 6, 6, generator=rng)
    want = wct.mean_and_covariance(x)
    with torch.autocast("cpu", precision):
        for have, exact in zip(wct.mean_and_covariance(x), want, strict=True):
            assert torch.equal(have, exact)
        assert wct.transform(x, want[0], want[1], want[0], 1.0).dtype == torch.float32


def test_root(rng: torch.Generator) -> None:
    given = covariances(rng)
    root = wct.covariance_root(given)
    assert_close(root, root.mT, terms=8, steps=4)
    assert_close(root @ root, given, terms=8 * 8, steps=4)


def test_mapped_features_have_the_covariance_of_the_style(
    rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the map is symmetric and positive, by which it is the optimal transport."""
    monkeypatch.setattr(wct, "EIGENVALUE_FLOOR", 0.0)
    content, style = covariances(rng), covariances(rng) * 5
    matrix = wct.transport_map(content, wct.covariance_root(style))
    condition = torch.linalg.cond(content).max().item()
    assert_close(matrix @ content @ matrix.mT, style, terms=int(8 * condition), steps=4)
    assert_close(matrix, matrix.mT, terms=int(8 * condition), steps=4)
    assert (torch.linalg.eigvalsh(matrix) > 0).all()


def test_features_of_the_styles_covariance_stay(rng: torch.Generator) -> None:
    given = covariances(rng)
    matrix = wct.transport_map(given, wct.covariance_root(given))
    condition = torch.linalg.cond(given).max().item()
    assert_close(matrix, torch.eye(8).double().expand(2, -1, -1), terms=int(8 * condition), steps=4)


@pytest.mark.parametrize("level", [0.0, 1e-12, 1e12])
def test_a_content_that_does_not_vary_is_not_blown_up(level: float, rng: torch.Generator) -> None:
    """A flat direction is raised by no more than the floor says, a flat picture's map is finite."""
    content = torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.0]))[None] * level
    matrix = wct.transport_map(content, wct.covariance_root(torch.eye(4)[None]))
    assert matrix.isfinite().all() and matrix.dtype == torch.float32
    if level:
        raised = matrix[0].diagonal()
        most = ((1 + wct.EIGENVALUE_FLOOR) / (0.75 * wct.EIGENVALUE_FLOOR * level)) ** 0.5
        assert raised[3] <= most * (1 + 1e-5) and raised[3] > raised[0]


def test_transform_moves_the_mean(rng: torch.Generator) -> None:
    x = torch.randn(2, 3, 4, 5, generator=rng).double()
    matrix, mean, target = (torch.randn(2, 3, n, generator=rng).double() for n in (3, 1, 1))
    styled = torch.einsum("nij,njhw->nihw", matrix, x - mean[..., None]) + target[..., None]
    for alpha in (0.0, 0.4, 1.0, torch.tensor([0.3, 1.0], dtype=torch.float64)):
        share = alpha.view(-1, 1, 1, 1) if isinstance(alpha, Tensor) else alpha
        have = wct.transform(x, mean[..., None], matrix, target[..., None], alpha)
        assert_close(have, (1 - share) * x + share * styled, terms=3, steps=6)
    assert torch.equal(wct.transform(x, mean[..., None], matrix, target[..., None], 0.0), x)
