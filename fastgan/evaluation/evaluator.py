"""Quality of a model: of pictures made from photographs (SPEC S9, S27), and of images made from noise (S1)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastgan import ops
from fastgan.data.tensors import image_to_tensor
from fastgan.errors import InputError
from fastgan.evaluation.style_targets import StyleReference, StyleTargets
from fastgan.inference.stylizer import Stylizer
from fastgan.metrics import (
    KID,
    LPIPS,
    PSNR,
    SSIM,
    ContentDistance,
    Diversity,
    FixedPattern,
    LuminanceCorrelation,
    StyleDistance,
    pooled_features,
)
from fastgan.metrics.coverage import WINDOW_STEP, covered_windows, style_window_median, window_style_distances
from fastgan.metrics.lpips import lpips_unavailable_reason
from fastgan.models import STYLE_LAYERS, VGGEncoder
from fastgan.utils.host_settings import own_settings

CONTENT_LAYER = "relu4_1"
#: Title of each measure, in the order in which they are shown.
TITLES = {
    "style_distance": "style distance",
    "coverage": "coverage",
    "window_style_distance": "style distance of windows",
    "ssim": "SSIM",
    "psnr": "PSNR (dB)",
    "lpips": "LPIPS",
    "content_distance": "content distance",
    "luminance_correlation": "luminance correlation",
    "fixed_pattern": "fixed pattern",
    "kid_vgg": "KID (VGG-19)",
    "diversity": "diversity",
}
#: Images from noise that are measured, and photographs that stand against them.
NUM_EVAL_IMAGES = 256
#: Subsets that images from noise are measured in, so that there is a spread of the measure.
_SUBSETS = 4


@dataclass
class EvalResult:
    """One value an image of each measure, in the order of the images."""

    values: dict[str, list[float]] = field(default_factory=dict)
    #: Of each image, which of its windows carry the style: bool (rows, columns); empty where windows were not measured.
    covered: list[np.ndarray] = field(default_factory=list)

    @property
    def n(self) -> int:
        """The number of measured images."""
        return len(next(iter(self.values.values()), []))

    def add(self, name: str, value: float) -> None:
        """Add a value of one image."""
        self.values.setdefault(name, []).append(value)

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
        styles: one, or several that are taken in turn, image by image, each when its turn comes.
    """

    def __init__(self, encoder: VGGEncoder, styles: StyleReference | Sequence[StyleReference]) -> None:
        self.encoder = encoder
        self.styles = [styles] if isinstance(styles, StyleReference) else styles
        self._medians: dict[int, float] = {}
        self._photographs: dict[tuple[bytes, int], Tensor] = {}

    @own_settings()
    @torch.no_grad()
    def measure(
        self,
        images: Iterable[np.ndarray],
        run: Callable[[Tensor, int], Tensor] | None,
        *,
        with_content: bool = True,
        window_stride: int = 1,
        on_failed: Callable[[Exception], None] | None = None,
    ) -> EvalResult:
        """Measure photographs (H, W, 3) uint8, already reduced.

        A window's cost is that of its pixels: all of a picture's cost three passes of the encoder. Those of the
        photograph are encoded once for all calls.

        Args:
            images: the photographs.
            run: (1, 3, H, W) in [-1, 1], and the number of the image, to the same; None measures the photographs
                themselves. Images that failed are not numbered.
            with_content: measure the content distance, too; it costs another pass of the encoder an image.
            window_stride: every how many rows and columns of windows are measured; 0 measures none.
            on_failed: takes what ``run`` or measuring raised for an image, which is passed over; by default it is
                raised.
        """
        device = self.encoder.scale.device
        pairwise, measures = _PairMetrics(), EvalResult()
        for image in images:
            number = measures.n
            try:
                content = image_to_tensor(image).to(device)
                result = content if run is None else run(content, number)
                index = number % len(self.styles)
                values = self._feature_distances(result, content, index, with_content=with_content)
                windows = self._measure_windows(result, content, index, window_stride) if window_stride else None
                values |= pairwise.update((result + 1) / 2, (content + 1) / 2)
            except Exception as error:
                if on_failed is None:
                    raise
                on_failed(error)
                continue
            if windows is not None:
                measures.covered.append(windows[1])
                values |= windows[0]
            for name, value in values.items():
                measures.add(name, value)
        if measures.n > 1:  # it is between pictures, and one alone has none
            measures.values["fixed_pattern"] = pairwise.fixed_pattern.values
        return measures

    def _feature_distances(
        self, result: Tensor, content: Tensor, index: int, *, with_content: bool
    ) -> dict[str, float]:
        encode = self.encoder.forward  # not a compiled call: it would compile again for every photograph's size
        features = encode(result, (*STYLE_LAYERS, CONTENT_LAYER))
        distance = StyleDistance(self.styles[index].targets)
        distance.loss.to(content.device)
        distance.update(features)
        values = {"style_distance": distance.values[-1]}
        if with_content:
            content_features = features if result is content else encode(content, (CONTENT_LAYER,))
            content_distance = ContentDistance()
            content_distance.update(features[CONTENT_LAYER], content_features[CONTENT_LAYER])
            values["content_distance"] = content_distance.values[-1]
        return values

    def _measure_windows(
        self, result: Tensor, content: Tensor, index: int, stride: int
    ) -> tuple[dict[str, float], np.ndarray]:
        style = self.styles[index]
        photograph = self._photograph_windows(content, index, stride)
        distances = photograph
        if result is not content:
            distances = window_style_distances(self.encoder, result, style.targets, step=stride * WINDOW_STEP)
        if index not in self._medians:
            self._medians[index] = style_window_median(self.encoder, style.images, style.targets)
        covered = covered_windows(distances, photograph, self._medians[index])
        values = {
            "coverage": covered.double().mean().item(),
            "window_style_distance": distances.double().mean().item(),
        }
        return values, covered.numpy()

    def _photograph_windows(self, content: Tensor, index: int, stride: int) -> Tensor:
        """Distances of a photograph's windows; those of a stride are every so many of all."""
        key = hashlib.sha256(content.cpu().contiguous().numpy().tobytes()).digest(), index
        if key not in self._photographs:
            targets = self.styles[index].targets
            distances = window_style_distances(self.encoder, content, targets, step=stride * WINDOW_STEP)
            if stride > 1:
                return distances
            self._photographs[key] = distances
        return self._photographs[key][::stride, ::stride]


class _PairMetrics:
    """The measures that a result and its photograph alone give, both in [0, 1], and the fixed pattern of all so far."""

    def __init__(self) -> None:
        self._metrics: dict[str, SSIM | PSNR | LuminanceCorrelation | LPIPS] = {
            "ssim": SSIM(),
            "psnr": PSNR(),
            "luminance_correlation": LuminanceCorrelation(),
        }
        if lpips_unavailable_reason() is None:
            self._metrics["lpips"] = LPIPS()
        self.fixed_pattern = FixedPattern()

    def update(self, result: Tensor, photograph: Tensor) -> dict[str, float]:
        """Add one picture to ``fixed_pattern``; its values of the others. An error leaves it not added."""
        values = {}
        for name, metric in self._metrics.items():
            metric.update(result, photograph)
            values[name] = metric.values[-1]
        self.fixed_pattern.update(result, photograph)
        return values


def make_evaluator(encoder: VGGEncoder, styles: StyleTargets, *, arbitrary_style: bool) -> Evaluator:
    """Make the evaluator of a model: one for any style is measured in all styles in turn, others in their mean."""
    return Evaluator(encoder, styles if arbitrary_style else styles.mean_reference)


class NoiseEvaluator:
    """Measures images made from noise against photographs (SPEC S1): by features of VGG-19, how far apart the two sets
    are, how varied the generated are, and how far their mean Gram matrices are apart.

    Args:
        encoder: VGG-19 with relu1_1, 2_1, 3_1 and 4_1.
        photographs: (M, H, W, 3) uint8, at the size of what is generated.

    Raises:
        InputError: they are all the same.
    """

    @own_settings()
    def __init__(self, encoder: VGGEncoder, photographs: Tensor) -> None:
        self.encoder = encoder
        pooled, self.grams = self._features(ops.from_pixels(photographs))
        try:
            self._distance, self._spread = KID(pooled), Diversity(pooled)
        except ValueError as error:
            raise InputError(f"content: these photographs cannot be compared with ({error})") from None

    @own_settings()
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
