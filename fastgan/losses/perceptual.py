"""Content and style losses over the features of a frozen encoder (SPEC S5, S8; Gatys et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, overload

import torch
from torch import Tensor, nn

from fastgan import ops
from fastgan.models import STYLE_LAYERS, VGGEncoder


def style_grams(
    encoder: VGGEncoder, styles: Sequence[Tensor], layers: Sequence[str] = STYLE_LAYERS
) -> dict[str, Tensor]:
    """The Gram target (C, C) of each layer: the mean over ``styles``, images (1, 3, H, W) in [-1, 1], any sizes."""
    grams: dict[str, Tensor] = {}
    with torch.no_grad():
        for image in styles:
            for layer, features in encoder(image, layers).items():
                gram = ops.gram(features)[0].float() / len(styles)
                grams[layer] = grams[layer] + gram if layer in grams else gram
    return grams


@overload
def style_distance(
    features: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    *,
    windows: tuple[int, int] | None = None,
    window_weight: float = 1.0,
    reduction: str = "mean",
    return_whole: Literal[False] = False,
) -> Tensor: ...
@overload
def style_distance(
    features: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    *,
    windows: tuple[int, int] | None = None,
    window_weight: float = 1.0,
    reduction: str = "mean",
    return_whole: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def style_distance(
    features: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    *,
    windows: tuple[int, int] | None = None,
    window_weight: float = 1.0,
    reduction: str = "mean",
    return_whole: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """The distance to a style: per layer ||G - T||^2 / ||T||^2 (Frobenius), averaged over layers.

    G is the Gram matrix of an image's features; the ratio does not depend on how it is scaled. It is both a loss and
    the measure ``train/style_distance``: 0 is the style itself. With ``windows`` the loss is ``1 - window_weight``
    times that plus ``window_weight`` times the mean of the windows' own distances: a style painted in a part of the
    picture alone is then far from its target.

    Args:
        features: of the result, layer -> (N, C, H, W).
        targets: layer -> (C, C) Gram matrix, or (N, C, C) for a style of each image; from ``style_grams``.
        windows: rows and columns that every layer's plane is cut into; None for the whole plane alone.
        window_weight: 0 to 1, the windows' share; without ``windows`` it has no effect.
        reduction: ``"mean"`` for a scalar, ``"none"`` for (N,).
        return_whole: whether to return the distance of the whole plane too, as a measure: it carries no gradient.

    Raises:
        ValueError: ``windows`` that a layer's plane does not have, or a ``window_weight`` outside of 0 to 1.
    """
    distances: list[Tensor] = []
    of_whole: list[Tensor] = []
    for layer, target in targets.items():
        losses = ops.gram_style_loss(
            features[layer], target, windows=windows, window_weight=window_weight, reduction="none", return_whole=True
        )
        size = target.float().square().mean((-2, -1))
        for values, loss in zip((distances, of_whole), losses, strict=True):
            values.append(loss / size)
    distance, whole = (torch.stack(values).mean(0) for values in (distances, of_whole))
    if reduction == "mean":
        distance, whole = distance.mean(), whole.mean()
    return (distance, whole.detach()) if return_whole else distance


class StyleLoss(nn.Module):
    """``style_distance`` to one style.

    Args:
        targets: layer -> (C, C) Gram matrix, from ``style_grams``.
        windows: as in ``style_distance``.
        window_weight: likewise.
    """

    def __init__(
        self, targets: Mapping[str, Tensor], windows: tuple[int, int] | None = None, window_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.layers = tuple(targets)
        self.windows, self.window_weight = windows, window_weight
        for layer, target in targets.items():
            self.register_buffer(layer, target.detach().float())

    def forward(self, features: Mapping[str, Tensor], reduction: str = "mean") -> Tensor:
        """Features of the result, layer -> (N, C, H, W); a scalar, or (N,) for ``reduction="none"``."""
        return style_distance(
            features,
            {layer: getattr(self, layer) for layer in self.layers},
            windows=self.windows,
            window_weight=self.window_weight,
            reduction=reduction,
        )


class ContentLoss(nn.Module):
    """Relative squared distance of features: mean((f - c)^2) / mean(c^2), per image; 0 is the content itself."""

    def forward(self, result: Tensor, content: Tensor, reduction: str = "mean") -> Tensor:
        """(N, C, H, W) features of the result and of the content; a scalar, or (N,) for ``reduction="none"``."""
        content32 = content.float()
        distance = (result.float() - content32).square().mean((1, 2, 3))
        ratio = distance / content32.square().mean((1, 2, 3)).clamp_min(1e-12)
        return ratio if reduction == "none" else ratio.mean()
