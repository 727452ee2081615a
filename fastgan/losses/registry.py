"""The registry of further loss terms of stylization: ``loss.extra`` of a config names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from fastgan.utils.registry import Registry


@dataclass(frozen=True)
class LossInputs:
    """Inputs of a loss term.

    Attributes:
        generated: the images of the generator, (N, 3, H, W) in [-1, 1].
        content: the photographs, likewise.
        features: of ``generated``, layer of VGG-19 -> (N, C, h, w): the style layers and ``loss.content_layer``.
        style_grams: Gram matrices of the styles, layer -> (C, C) or (N, C, C).
    """

    generated: Tensor
    content: Tensor
    features: Mapping[str, Tensor]
    style_grams: Mapping[str, Tensor]


#: A loss term: a scalar, the mean over images.
LossTerm = Callable[[LossInputs], Tensor]
LOSSES: Registry[LossTerm] = Registry("loss")
#: The names after ``loss/`` that every run has in its metrics.
_RESERVED = ("g", "d", "total", "g_adversarial", "content", "style", "tv", "ssim", "psnr", "luminance", "r1")


def register_loss(name: str, term: LossTerm) -> LossTerm:
    """Register a loss term by name: ``--set loss.extra.NAME=WEIGHT`` adds it to the generator's loss, and
    ``metrics.jsonl`` has it as ``loss/NAME``.

    Raises:
        ValueError: the name is no identifier, or is taken.
    """
    if not name.isidentifier() or name in _RESERVED:
        raise ValueError(
            f"a loss must have a name that is an identifier and none of {', '.join(_RESERVED)}, got {name!r}"
        )
    return LOSSES.register(name, term)
