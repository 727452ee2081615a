"""Sheets of sample pictures: arrays (H, W, 3) uint8."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastgan.data import fit_short_side
from fastgan.inference.stylizer import Stylizer

#: Rows of a sheet of samples.
SHEET_ROWS = 3
_SIDE = 256
_GAP = 8
#: How many times as long as wide a picture is shown at most.
_LONGEST = 4
#: Strengths of a fusing model that are shown side by side.
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)

Pairs = Sequence[tuple[np.ndarray, np.ndarray]]


def picture_sheet(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Rows of pictures (H, W, 3), of any sizes: each at a short side of 256 px, gaps between them white."""
    return _stack([_row(images) for images in rows])


def comparison_sheet(pairs: Pairs, stylizer: Stylizer) -> np.ndarray:
    """A row a pair (content, style): content, style and result side by side."""
    any_style = stylizer.takes_any_style
    return picture_sheet(
        [
            [content, style, stylizer(content, style=style if any_style else None)]
            for content, style in pairs[:SHEET_ROWS]
        ]
    )


def strength_sheet(pairs: Pairs, stylizer: Stylizer) -> np.ndarray:
    """A row a pair (content, style): the result at each of ``STRENGTHS``, then the style."""
    return picture_sheet(
        [
            [*(stylizer(content, style=style, strength=strength) for strength in STRENGTHS), style]
            for content, style in pairs[:SHEET_ROWS]
        ]
    )


def grid(images: np.ndarray, columns: int) -> np.ndarray:
    """Images (N, H, W, 3) in rows of ``columns``, a narrow gap between them."""
    height, width = images.shape[1:3]
    rows = -(-len(images) // columns)
    sheet = np.full((rows * (height + 2) - 2, columns * (width + 2) - 2, 3), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * (height + 2), index % columns * (width + 2)
        sheet[top : top + height, left : left + width] = image
    return sheet


def _row(images: Sequence[np.ndarray]) -> np.ndarray:
    panels = [_panel(image) for image in images]
    height = max(panel.shape[0] for panel in panels)
    padded = [np.pad(panel, ((0, height - panel.shape[0]), (0, _GAP), (0, 0)), constant_values=255) for panel in panels]
    return np.concatenate(padded, axis=1)[:, :-_GAP]


def _panel(image: np.ndarray) -> np.ndarray:
    """The picture at a short side of ``_SIDE``; of a long and thin one the middle."""
    most = _LONGEST * min(image.shape[:2])
    top, left = (max(0, side - most) // 2 for side in image.shape[:2])
    return fit_short_side(image[top : top + most, left : left + most], _SIDE)


def _stack(rows: list[np.ndarray]) -> np.ndarray:
    width = max(row.shape[1] for row in rows)
    sheet = np.full((sum(row.shape[0] + _GAP for row in rows) - _GAP, width, 3), 255, np.uint8)
    top = 0
    for row in rows:
        sheet[top : top + row.shape[0], : row.shape[1]] = row
        top += row.shape[0] + _GAP
    return sheet
