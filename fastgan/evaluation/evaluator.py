"""Quality of a model: of pictures made from photographs (SPEC S9, S27), and of images made from noise (S1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastgan import ops
from fastgan.data.tensors import image_to_tensor
from fastgan.errors import InputError
from fastgan.evaluation.style_targets import StyleTargets
from fastgan.inference.stylizer import Stylizer
from fastgan.metrics import KID, PSNR, SSIM, ContentDistance, Diversity, StyleDistance, pooled_features
from fastgan.models import STYLE_LAYERS, VGGEncoder

CONTENT_LAYER = "relu4_1"
#: Title of each measure, in the order in which they are shown.
TITLES = {
    "style_distance": "style distance",
    "ssim": "SSIM",
    "psnr": "PSNR (dB)",
    "content_distance": "content distance",
    "kid_vgg": "feature distance",
    "diversity": "feature spread",
}
#: Images from noise that are measured, and photographs that stand against them.
NUM_EVAL_IMAGES = 256
#: Subsets that images from noise are measured in, so that there is a spread of the measure.
_SUBSETS = 4


@dataclass
class EvalResult:
    """One value an image of each measure, in the order of the images."""

    values: dict[str, list[float]] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """The number of measured images."""
        return len(next(iter(self.values.values()), []))

    def extend(self, more: EvalResult) -> None:
        """Take in the measures of further images."""
        for name, values in more.values.items():
            self.values.setdefault(name, []).extend(values)

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
        targets: Gram matrices of the style at a short side of 384 px, from ``fastgan.losses.style_grams``; several
            are taken in turn, image by image, each when its turn comes.
    """

    def __init__(self, encoder: VGGEncoder, targets: Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]]) -> None:
        self.encoder = encoder
        self.targets = [targets] if isinstance(targets, Mapping) else targets

    @torch.no_grad()
    def measure(
        self,
        images: Iterable[np.ndarray],
        run: Callable[[Tensor, int], Tensor] | None,
        first: int = 0,
        *,
        with_content: bool = True,
    ) -> EvalResult:
        """Measure photographs (H, W, 3) uint8, already reduced.

        Args:
            images: the photographs.
            run: (1, 3, H, W) in [-1, 1], and the number of the image, to the same; None measures the photographs
                themselves.
            first: the number of the first image.
            with_content: measure the content distance, too; it costs another pass of the encoder an image.
        """
        device = self.encoder.scale.device
        encode = self.encoder.forward  # not a compiled call: it would compile again for every photograph's size
        ssim, psnr, content_distance = SSIM(), PSNR(), ContentDistance()
        values: list[float] = []
        for number, image in enumerate(images, first):
            content = image_to_tensor(image).to(device)
            result = content if run is None else run(content, number)
            features = encode(result, (*STYLE_LAYERS, CONTENT_LAYER))
            distance = StyleDistance(self.targets[number % len(self.targets)])
            distance.loss.to(device)
            distance.update(features)
            values.append(distance.values[-1])
            if with_content:
                content_features = features if run is None else encode(content, (CONTENT_LAYER,))
                content_distance.update(features[CONTENT_LAYER], content_features[CONTENT_LAYER])
            pair = (result + 1) / 2, (content + 1) / 2
            ssim.update(*pair)
            psnr.update(*pair)
        measures = EvalResult({"ssim": ssim.values, "psnr": psnr.values, "style_distance": values})
        if with_content:
            measures.values["content_distance"] = content_distance.values
        return measures


def make_evaluator(encoder: VGGEncoder, styles: StyleTargets, *, arbitrary_style: bool) -> Evaluator:
    """Make the evaluator of a model: one for any style is measured in all styles in turn, others in their mean."""
    return Evaluator(encoder, styles if arbitrary_style else styles.mean_targets)


class NoiseEvaluator:
    """Measures images made from noise against photographs (SPEC S1): by features of VGG-19, how far apart the two sets
    are, how varied the generated are, and how far their mean Gram matrices are apart.

    Args:
        encoder: VGG-19 with relu1_1, 2_1, 3_1 and 4_1.
        photographs: (M, H, W, 3) uint8, at the size of what is generated.

    Raises:
        InputError: they are all the same.
    """

    def __init__(self, encoder: VGGEncoder, photographs: Tensor) -> None:
        self.encoder = encoder
        pooled, self.grams = self._features(ops.from_pixels(photographs))
        try:
            self._distance, self._spread = KID(pooled), Diversity(pooled)
        except ValueError as error:
            raise InputError(f"--content: these photographs cannot be compared with ({error})") from None

    def measure(self, images: Tensor) -> EvalResult:
        """Measure images (N, 3, H, W) in [-1, 1], N at least 8: one value a quarter of them."""
        values: dict[str, list[float]] = {"kid_vgg": [], "diversity": [], "style_distance": []}
        for part in images.tensor_split(_SUBSETS):
            pooled, grams = self._features(part)
            for metric, name in ((self._distance, "kid_vgg"), (self._spread, "diversity")):
                metric.reset()
                metric.update(pooled)
                values[name].append(metric.compute().item())
            ratios = [
                (grams[layer] - target).square().sum() / target.square().sum() for layer, target in self.grams.items()
            ]
            values["style_distance"].append(torch.stack(ratios).mean().item())
        return EvalResult(values)

    @torch.no_grad()
    def _features(self, images: Tensor, batch: int = 16) -> tuple[Tensor, dict[str, Tensor]]:
        pooled: list[Tensor] = []
        grams: dict[str, list[Tensor]] = {layer: [] for layer in STYLE_LAYERS}
        for part in images.split(batch):
            features = self.encoder.forward(part.to(self.encoder.scale.device), STYLE_LAYERS)
            pooled.append(pooled_features(features).cpu())
            for layer in STYLE_LAYERS:
                grams[layer].append(ops.gram(features[layer]).float().cpu())
        return torch.cat(pooled), {layer: torch.cat(parts).mean(0) for layer, parts in grams.items()}


def as_uint8_model(stylizer: Stylizer, code: Callable[[int], Tensor] | None = None) -> Callable[[Tensor, int], Tensor]:
    """Make the function for ``Evaluator.measure``; results are rounded to 8 bits, as in a picture file.

    ``code`` gives the style's code for the index of an image; None uses the model's own style.
    """

    def run(content: Tensor, number: int) -> Tensor:
        own = None if code is None else code(number)
        return ops.from_pixels(ops.to_pixels(stylizer.run(content, code=own).contiguous())).to(content.device)

    return run


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
