"""Variants of styles: deterministic, of every kind, in the colors that they are to have."""

import numpy as np
import pytest
import torch
from helpers.bounds import assert_close

from fastgan.data.style_variants import SIDE, style_variants, transfer_colors


def pictures() -> list[np.ndarray]:
    """Two styles of other sizes and colors: red with a gradient, and blue noise."""
    rows, columns = np.mgrid[:90, :130]
    red = np.stack([rows + 120, columns / 3, rows / 4], -1)
    blue = np.random.default_rng(1).integers(0, 256, (300, 280, 3)) * (0.2, 0.4, 1.0)
    return [red.astype(np.uint8), blue.astype(np.uint8)]


def test_they_are_a_function_of_the_seed() -> None:
    first = style_variants(pictures(), 12, 3)
    assert len(first) == 12
    for image in first:
        assert image.shape == (SIDE, SIDE, 3) and image.dtype == np.uint8 and image.flags.c_contiguous
    for have, want in zip(style_variants(pictures(), 14, 3), first, strict=False):
        assert np.array_equal(have, want)
    assert not any(np.array_equal(*pair) for pair in zip(style_variants(pictures(), 12, 4), first, strict=True))


def test_none_is_flat_and_no_two_are_the_same() -> None:
    made = style_variants(pictures(), 40, 0)
    assert min(image.std() for image in made) > 1
    assert len({image.tobytes() for image in made}) == 40


def test_one_style_will_do() -> None:
    assert len(style_variants(pictures()[:1], 10, 0)) == 10


def test_colors_are_those_of_the_other() -> None:
    _, other = pictures()
    image = np.random.default_rng(2).integers(30, 130, (80, 90, 3)).astype(np.uint8)
    made = transfer_colors(image, other)
    pixels, want = (torch.from_numpy(part.reshape(-1, 3).astype(float)) for part in (made, other))
    assert made.shape == image.shape
    assert_close(pixels.mean(0), want.mean(0), terms=len(want))
    # To the variances of the image's colors, 100 ** 2 / 12, 1 is added.
    covariance = want.T.cov()
    torch.testing.assert_close(pixels.T.cov(), covariance, rtol=0, atol=covariance.max().item() * 12 / 100**2)


@pytest.mark.parametrize("count", [0, 1])
def test_few(count: int) -> None:
    assert len(style_variants(pictures(), count, 0)) == count
