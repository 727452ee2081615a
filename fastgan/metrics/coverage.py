"""Where in a picture the style is: style distance and coverage of windows.

A Gram matrix of a whole picture can be had by painting a part of it and leaving the rest a photograph; windows show it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fastgan.losses import style_distance
from fastgan.metrics.base import ImageMetric
from fastgan.models import VGGEncoder

#: Side of a window and from one to the next, pixels, at a short side of 384.
WINDOW_SIDE, WINDOW_STEP = 96, 48
#: Windows that are encoded at once.
_BATCH = 16


def crop_windows(image: Tensor, *, side: int = WINDOW_SIDE, step: int = WINDOW_STEP) -> Tensor:
    """The square windows of an image (1, C, H, W), row by row from the upper left: (rows, columns, C, side, side).

    A window never lies partly outside: up to ``step - 1`` pixels on the right and below are in none. An image smaller
    than a window has one across, as large as itself.
    """
    if image.dim() != 4 or len(image) != 1 or image.numel() == 0:
        raise ValueError(f"image must be (1, C, H, W), got shape {tuple(image.shape)}")
    height, width = image.shape[2:]
    down = image[0].unfold(1, min(side, height), step)
    return down.unfold(2, min(side, width), step).permute(1, 2, 0, 3, 4)


@torch.no_grad()
def window_style_distances(
    encoder: VGGEncoder,
    image: Tensor,
    targets: Mapping[str, Tensor],
    *,
    side: int = WINDOW_SIDE,
    step: int = WINDOW_STEP,
) -> Tensor:
    """The style distance of each window of an image, encoded by itself and not cut from the image's features.

    Args:
        encoder: VGG-19 with the layers of ``targets``.
        image: (1, 3, H, W) in [-1, 1], at a short side of 384 px.
        targets: layer -> (C, C) Gram matrix of the whole style, from ``fastgan.losses.style_grams``.
        side, step: of the windows, pixels.

    Returns:
        (rows, columns) float32 on the CPU.

    Raises:
        ValueError: ``image`` is no (1, 3, H, W).
    """
    windows = crop_windows(image, side=side, step=step)
    rows, columns = windows.shape[:2]
    distances = []
    for part in windows.flatten(0, 1).split(_BATCH):
        features = encoder.forward(part.to(encoder.scale.device), tuple(targets))
        distances.append(style_distance(features, targets, reduction="none").float().cpu())
    return torch.cat(distances).reshape(rows, columns)


def style_window_median(
    encoder: VGGEncoder,
    styles: Sequence[Tensor],
    targets: Mapping[str, Tensor],
    *,
    side: int = WINDOW_SIDE,
    step: int = WINDOW_STEP,
) -> float:
    """Median style distance of the style's own windows, those of all its images: how near a window can be expected.

    ``styles`` are images (1, 3, H, W) in [-1, 1]; the rest is as in ``window_style_distances``.
    """
    distances = [
        window_style_distances(encoder, style, targets, side=side, step=step).flatten().double() for style in styles
    ]
    return torch.cat(distances).quantile(0.5).item()


def covered_windows(result: Tensor, photograph: Tensor, style_median: float) -> Tensor:
    """The windows that carry the style: nearer to it than half of the way that the photograph's window has to go.

    The way leads down to ``style_median``. Where the photograph's window is there already, half of no way is where it
    is: the result's must be nearer still. A photograph carries no style.

    Args:
        result, photograph: style distances of their windows, of one shape, from ``window_style_distances``.
        style_median: what the way leads to, from ``style_window_median``.

    Returns:
        bool, of that shape.
    """
    if result.shape != photograph.shape or result.numel() == 0:
        shapes = f"{tuple(result.shape)} and {tuple(photograph.shape)}"
        raise ValueError(f"result and photograph must have the same windows, got {shapes}")
    photograph = photograph.double()
    return result.double() < photograph - (photograph - style_median).clamp_min(0) / 2


class Coverage(ImageMetric):
    """Share of a picture's windows that carry the style: 0 for a photograph, 1 where all of it is painted.

    Args:
        style_median: of the style's own windows, from ``style_window_median``.

    Example:
        >>> import torch
        >>> from fastgan import metrics
        >>> metric = metrics.Coverage(style_median=0.25)
        >>> metric.update(torch.tensor([[0.3, 0.9], [0.2, 0.1]]), torch.tensor([[1.0, 1.0], [1.2, 0.8]]))
        >>> metric.compute()
        tensor(0.7500, dtype=torch.float64)
    """

    def __init__(self, style_median: float) -> None:
        super().__init__()
        self.style_median = style_median

    def update(self, result: Tensor, photograph: Tensor) -> None:
        """Add a picture by the style distances of its windows and of its photograph's, (rows, columns) each."""
        self._add(covered_windows(result, photograph, self.style_median).double().mean())
