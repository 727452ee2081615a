"""The map of where a picture carries the style."""

import numpy as np

from fastgan.evaluation.style_map import overlay_style_map, style_map, style_map_sheet


def test_share_of_the_windows_over_each_pixel() -> None:
    """Two windows side by side, of pixels 0 to 95 and 48 to 143; 150 pixels, so that six are in none."""
    share = style_map(np.array([[True, False]]), 96, 150)
    assert share.shape == (96, 150)
    assert (share[:, :48] == 1).all() and (share[:, 48:96] == 0.5).all() and (share[:, 96:] == 0).all()


def test_small_pictures_and_whole_ones() -> None:
    assert (style_map(np.array([[True]]), 40, 52) == 1).all()
    covered = np.array([[True, True], [False, False], [False, False]])
    share = style_map(covered, 200, 144)
    assert (share[:48] == 1).all() and (share[48:96] == 0.5).all() and (share[96:] == 0).all()


def test_bare_parts_are_red_and_painted_ones_as_they_are() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (96, 144, 3)).astype(np.uint8)
    shown = overlay_style_map(picture, np.array([[True, False]]))
    assert np.array_equal(shown[:, :48], picture[:, :48]) and shown.dtype == np.uint8
    bare, before = shown[:, 96:].astype(float), picture[:, 96:].astype(float)
    assert np.abs(bare - (0.45 * before + 0.55 * np.array([255, 32, 32]))).max() <= 0.5 + 1e-3  # rounded
    assert np.array_equal(overlay_style_map(picture, np.array([[True, True]])), picture)


def test_sheet() -> None:
    pictures = [np.full((256, 300, 3), 90, np.uint8), np.full((512, 512, 3), 10, np.uint8)]
    sheet = style_map_sheet(pictures, [np.ones((4, 5), bool), np.zeros((9, 9), bool)])
    assert sheet.shape == (256 + 8 + 256, 300 + 8 + 300, 3)
    assert (sheet[:256, :300] == 90).all() and (sheet[:256, 308:] == 90).all()
    assert (
        (sheet[264:, :256] == 10).all() and (sheet[264:, 264:520, 0] > 100).all() and (sheet[264:, 520:] == 255).all()
    )
