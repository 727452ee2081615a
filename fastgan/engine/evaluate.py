"""Quality of a model on photographs (SPEC S9, S27): SSIM, PSNR, style and content distance."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastgan import ops
from fastgan.engine.infer import Stylizer
from fastgan.models import STYLE_LAYERS, VGGEncoder
from fastgan.quality import PSNR, SSIM, ContentDistance, StyleDistance

CONTENT_LAYER = "relu4_1"
#: Short side, in pixels, at which quality is measured and the style's Gram matrices are taken.
SHORT_SIDE = 384


@dataclass
class Measures:
    """One value an image of each measure, in the order of the images."""

    values: dict[str, list[float]] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """How many images were measured."""
        return len(next(iter(self.values.values()), []))

    def to_json(self) -> dict[str, Any]:
        """``n`` and, a measure, ``mean``, ``std`` (population) and ``values``; infinities as None."""
        result: dict[str, Any] = {"n": self.n}
        for name, values in self.values.items():
            result[name] = {
                "mean": _finite(float(np.mean(values))) if values else None,
                "std": float(np.std(values)) if values and np.all(np.isfinite(values)) else None,
                "values": [_finite(value) for value in values],
            }
        return result


class Evaluator:
    """Measures what a generator makes of photographs.

    Args:
        encoder: VGG-19 with at least relu1_1, 2_1, 3_1 and 4_1.
        targets: Gram matrices of the style at a short side of ``SHORT_SIDE``, from ``fastgan.losses.style_grams``.
    """

    def __init__(self, encoder: VGGEncoder, targets: dict[str, Tensor]) -> None:
        self.encoder = encoder
        self.targets = targets

    @torch.no_grad()
    def measure(self, images: Iterable[np.ndarray], run: Callable[[Tensor], Tensor] | None) -> Measures:
        """Measure photographs (H, W, 3) uint8, already reduced.

        Args:
            images: the photographs.
            run: (1, 3, H, W) in [-1, 1] to the same; None measures the photographs themselves.
        """
        device = next(self.encoder.parameters()).device
        encode = self.encoder.forward  # not a compiled call: it would compile again for every photograph's size
        ssim, psnr, content_distance = SSIM(), PSNR(), ContentDistance()
        style_distance = StyleDistance(self.targets)
        style_distance.loss.to(device)
        for image in images:
            content = ops.from_pixels(torch.from_numpy(np.ascontiguousarray(image))[None].to(device))
            result = content if run is None else run(content)
            features = encode(result, (*STYLE_LAYERS, CONTENT_LAYER))
            style_distance.update(features)
            content_features = features if run is None else encode(content, (CONTENT_LAYER,))
            content_distance.update(features[CONTENT_LAYER], content_features[CONTENT_LAYER])
            pair = (result + 1) / 2, (content + 1) / 2
            ssim.update(*pair)
            psnr.update(*pair)
        return Measures(
            {
                "ssim": ssim.values,
                "psnr": psnr.values,
                "style_distance": style_distance.values,
                "content_distance": content_distance.values,
            }
        )


def stylizer_run(stylizer: Stylizer) -> Callable[[Tensor], Tensor]:
    """What ``Evaluator.measure`` wants, rounded to 8 bits as a picture in a file would be."""

    def run(content: Tensor) -> Tensor:
        return ops.from_pixels(ops.to_pixels(stylizer.run(content).contiguous())).to(content.device)

    return run


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
