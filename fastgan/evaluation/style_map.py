"""Where a picture carries the style, drawn over it: arrays (H, W, 3) uint8."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastgan.evaluation.image_grid import picture_sheet
from fastgan.metrics.coverage import WINDOW_SIDE, WINDOW_STEP

#: What windows without style are tinted with, and how much of it their pixels take on.
_BARE_COLOR, _BARE_OPACITY = (255, 32, 32), 0.55


def style_map(covered: np.ndarray, height: int, width: int) -> np.ndarray:
    """The share of the windows over each pixel that carry the style, (height, width) float32 in [0, 1].

    Args:
        covered: (rows, columns) bool of all windows, from ``fastgan.metrics.coverage.covered_windows``.
        height, width: of the picture; pixels past the last window have the share of the nearest that is in one.
    """
    total, count = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    side = min(WINDOW_SIDE, height), min(WINDOW_SIDE, width)
    for row, column in np.ndindex(covered.shape):
        top, left = row * WINDOW_STEP, column * WINDOW_STEP
        total[top : top + side[0], left : left + side[1]] += covered[row, column]
        count[top : top + side[0], left : left + side[1]] += 1
    rows, columns = (count[:, 0] > 0).sum(), (count[0] > 0).sum()
    share = total[:rows, :columns] / count[:rows, :columns]
    return np.pad(share, ((0, height - rows), (0, width - columns)), mode="edge")


def overlay_style_map(picture: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) uint8 with red over what carries no style, by the shares of ``style_map``."""
    opacity = _BARE_OPACITY * (1 - style_map(covered, *picture.shape[:2]))[..., None]
    tinted = (1 - opacity) * picture + opacity * np.array(_BARE_COLOR, np.float32)
    return tinted.round().astype(np.uint8)


def style_map_sheet(pictures: Sequence[np.ndarray], covered: Sequence[np.ndarray]) -> np.ndarray:
    """A row a picture (H, W, 3): the picture, and the same with what carries no style in red."""
    pairs = zip(pictures, covered, strict=True)
    return picture_sheet([[picture, overlay_style_map(picture, windows)] for picture, windows in pairs])
