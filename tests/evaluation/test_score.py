"""The score by which the best model is chosen."""

import pytest

from fastgan.evaluation.score import picture_score

#: Means over photographs not trained on: (SSIM, style distance, share of windows with style), by how good they look.
PUBLISHED = {"ssim": 0.495, "style_distance": 0.059, "coverage": 0.94}
PARTLY_PAINTED = {"ssim": 0.760, "style_distance": 0.041, "coverage": 0.64}
MOSTLY_BARE = {"ssim": 0.604, "style_distance": 0.069, "coverage": 0.39}
PHOTOGRAPH = {"ssim": 1.0, "style_distance": 0.8, "coverage": 0.0}


def test_it_cannot_be_had_by_painting_a_part() -> None:
    """Better in SSIM and style distance, and worse to the eye: the published network is ahead by what it covers."""
    scores = [picture_score(measured) for measured in (PUBLISHED, PARTLY_PAINTED, MOSTLY_BARE, PHOTOGRAPH)]
    assert scores == sorted(scores) and len(set(scores)) == 4


def test_values() -> None:
    measured = {"ssim": 0.4, "psnr": 12.0, "style_distance": 0.1, "coverage": 0.75}
    assert picture_score(measured) == pytest.approx(0.1 + 0.25 + 0.45 * 0.6)
    assert picture_score(measured, ("ssim", 0.5)) == pytest.approx(0.1 + 0.25 + 4.5 * 0.1)
    assert picture_score(measured, ("ssim", 0.3)) == pytest.approx(0.1 + 0.25)
    assert picture_score(measured, ("psnr", 14.0)) == pytest.approx(0.1 + 0.25 + 4.5 * 0.1)
    assert picture_score(measured, ("coverage", 0.85)) == pytest.approx(0.1 + 0.25 + 0.45 * 0.6 + 4.5 * 0.1)
    assert picture_score(measured, ("coverage", 0.7)) == picture_score(measured)
    assert picture_score({**measured, "lpips": 0.6}, ("lpips", 0.5)) == pytest.approx(0.1 + 0.25 + 4.5 * 0.1)
    assert picture_score({**measured, "lpips": 0.4}, ("lpips", 0.5)) == pytest.approx(0.1 + 0.25)


def test_a_painting_laid_over_photographs() -> None:
    measured = {"ssim": 0.5, "style_distance": 0.05, "coverage": 1.0}
    scores = [picture_score({**measured, "fixed_pattern": value}) for value in (-0.05, 0.1, 0.97)]
    assert scores[0] == scores[1] == picture_score(measured)
    assert scores[2] == pytest.approx(scores[0] + 0.87)
