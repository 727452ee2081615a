"""Measures of a model, against scikit-image and NumPy."""

import importlib
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers.bounds import assert_close, rounding
from helpers.quality_bounds import approx_style_distance, feature_steps, psnr_error, ssim_error
from helpers.tiny_runs import MEASURES, MEASURES_OF_ONE, picture, stylizer_of
from torch import Tensor

from fastgan.config import Config
from fastgan.evaluation import EvalResult, Evaluator
from fastgan.evaluation import evaluator as evaluator_module
from fastgan.evaluation.evaluator import TITLES, StyleReference, as_uint8_model
from fastgan.metrics.coverage import covered_windows, style_window_median, window_style_distances
from fastgan.models import STYLE_LAYERS, VGGEncoder
from fastgan.models.style_code import SHORT_SIDE
from fastgan.training import Trainer

NAMES = ("ssim", "psnr", "style_distance", "content_distance")
IMAGES = [picture(40, 56, 1), picture(48, 40, 2), picture(64, 33, 3)]
STYLE = picture(50, 44, 9, busy=True)


def tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1


@pytest.fixture(scope="module")
def encoder() -> VGGEncoder:
    return VGGEncoder(STYLE_LAYERS, "random")


def darker(x: Tensor) -> Tensor:
    """A stand-in for a stylized picture; rounded to 8 bits as such a picture is."""
    return ((x * 0.7 - 0.1 + 1) * 127.5).round() / 127.5 - 1


def reference(encoder: VGGEncoder) -> StyleReference:
    return StyleReference.from_images(encoder, [tensor(STYLE)])


def grams(encoder: VGGEncoder, image: np.ndarray) -> list[np.ndarray]:
    features = [f[0].flatten(1).double().numpy() for f in encoder(tensor(image)).values()]
    return [f @ f.T / f.shape[1] for f in features]


def test_values_by_outsiders(encoder: VGGEncoder) -> None:
    metrics = importlib.import_module("skimage.metrics")
    measures = Evaluator(encoder, reference(encoder)).measure(IMAGES, lambda content, number: darker(content))
    style = grams(encoder, STYLE)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    for index, image in enumerate(IMAGES):
        made = ((darker(tensor(image))[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
        a, b = made / 255, image / 255
        ssim = metrics.structural_similarity(a, b, channel_axis=2, **options)
        psnr = metrics.peak_signal_noise_ratio(b, a, data_range=1.0)
        ratios = [np.sum((g - s) ** 2) / np.sum(s**2) for g, s in zip(grams(encoder, made), style, strict=True)]
        f, c = (encoder(tensor(each))["relu4_1"].double() for each in (made, image))
        content = ((f - c).square().mean() / c.square().mean()).item()
        got = {name: measures.values[name][index] for name in NAMES}
        pair = [(tensor(each) + 1) / 2 for each in (made, image)]
        assert got["ssim"] == pytest.approx(ssim, abs=ssim_error(*pair))
        assert got["psnr"] == pytest.approx(psnr, abs=psnr_error(pair[0]))
        assert got["style_distance"] == approx_style_distance(np.mean(ratios), encoder)
        assert got["content_distance"] == approx_style_distance(content, encoder)


def test_the_photographs_themselves(encoder: VGGEncoder) -> None:
    measures = Evaluator(encoder, reference(encoder)).measure(IMAGES, None)
    for value, image in zip(measures.values["ssim"], IMAGES, strict=True):
        unit = (tensor(image) + 1) / 2
        assert value == pytest.approx(1, abs=ssim_error(unit, unit))
    assert all(math.isinf(value) for value in measures.values["psnr"])
    assert measures.values["content_distance"] == [0, 0, 0]
    assert min(measures.values["style_distance"]) > 0.01
    itself = Evaluator(encoder, reference(encoder)).measure([STYLE], None)
    assert itself.values["style_distance"] == pytest.approx([0], abs=rounding(1, feature_steps(encoder)) ** 2)


def test_json_form() -> None:
    values = {name: [1.0, 2.0, 4.0] for name in NAMES} | {"psnr": [20.0, math.inf, 30.0]}
    result = json.loads(json.dumps(EvalResult(values).to_json(), allow_nan=False))
    assert set(result) == {"n", *NAMES} and result["n"] == 3
    assert result["ssim"] == {
        "mean": pytest.approx(7 / 3),
        "std": pytest.approx(np.std([1, 2, 4])),
        "values": [1.0, 2.0, 4.0],
    }
    assert result["psnr"] == {"mean": None, "std": None, "values": [20.0, None, 30.0]}


@pytest.mark.filterwarnings("error")
def test_nothing_measured() -> None:
    result = EvalResult({name: [] for name in NAMES}).to_json()
    assert result["n"] == 0 and result["ssim"] == {"mean": None, "std": None, "values": []}


def test_results_are_rounded_as_in_a_file(tiny: Callable[..., Config]) -> None:
    """The picture that a user gets is measured."""
    stylizer = stylizer_of(Trainer(tiny()))
    image = IMAGES[0]
    measured = as_uint8_model(stylizer)(tensor(image), 0)
    levels = (measured[0].permute(1, 2, 0) + 1) * 127.5
    assert_close(levels, levels.round(), steps=4, scale=255.0)  # there and back
    assert np.array_equal(levels.round().byte().numpy(), stylizer(image))
    assert SHORT_SIDE == 384


def test_windows(encoder: VGGEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the functions of the metrics; every second row and column are part of all; photographs are encoded once."""
    photograph, style = picture(200, 250, 4), reference(encoder)
    result = tensor(picture(200, 250, 5, busy=True))
    content = tensor(photograph)
    distances = [window_style_distances(encoder, image, style.targets) for image in (result, content)]
    median = style_window_median(encoder, style.images, style.targets)
    covered = covered_windows(distances[0], distances[1], median)
    encoded: list[int] = []
    forward = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda x, *rest: encoded.append(len(x)) or forward(x, *rest))
    evaluator = Evaluator(encoder, style)
    own = evaluator.measure([photograph], None)
    assert own.values["coverage"] == [0.0]
    assert own.values["window_style_distance"] == pytest.approx([distances[1].double().mean().item()])
    encoded.clear()
    all_windows = evaluator.measure([photograph], lambda x, number: result)
    assert all_windows.values["coverage"] == [covered.double().mean().item()]
    assert all_windows.values["window_style_distance"] == pytest.approx([distances[0].double().mean().item()])
    assert np.array_equal(all_windows.covered[0], covered)
    assert sum(encoded) == 2 + covered.numel()  # result and photograph, and the result's windows
    encoded.clear()
    fourth = evaluator.measure([photograph], lambda x, number: result, with_content=False, window_stride=2)
    assert np.array_equal(fourth.covered[0], covered[::2, ::2])
    assert sum(encoded) == 1 + covered[::2, ::2].numel()
    fresh = Evaluator(encoder, style).measure([photograph], lambda x, number: result, window_stride=2)
    assert fresh.values["coverage"] == fourth.values["coverage"]
    without = evaluator.measure([photograph], None, window_stride=0)
    assert without.covered == [] and not {"coverage", "window_style_distance"} & set(without.values)


@pytest.mark.parametrize("place", ["run", "encoder", "window_style_distances", "LuminanceCorrelation", "FixedPattern"])
def test_one_that_fails_leaves_the_others_as_they_are_without_it(
    encoder: VGGEncoder, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Wherever measuring is when it fails; and the styles go on with the next image as if it had not been there."""

    def failing(call: Callable[..., Any]) -> Callable[..., Any]:
        def fail_for_the_second(*args: Any, **options: Any) -> Any:
            if any(isinstance(value, Tensor) and value.shape[-2:] == (48, 40) for value in args):
                raise ZeroDivisionError("whatever")
            return call(*args, **options)

        return fail_for_the_second

    styles = [reference(encoder), StyleReference.from_images(encoder, [tensor(picture(40, 40, 8))])]
    want = Evaluator(encoder, styles).measure([IMAGES[0], IMAGES[2]], lambda x, number: darker(x))
    numbers: list[int] = []
    run = lambda x, number: numbers.append(number) or darker(x)  # noqa: E731
    if place == "run":
        run = failing(run)
    elif place == "encoder":
        monkeypatch.setattr(encoder, "forward", failing(encoder.forward))
    elif place == "window_style_distances":
        monkeypatch.setattr(evaluator_module, place, failing(window_style_distances))
    else:
        metric = getattr(evaluator_module, place)
        monkeypatch.setattr(metric, "update", failing(metric.update))
    errors: list[Exception] = []
    got = Evaluator(encoder, styles).measure(IMAGES, run, on_failed=errors.append)
    assert [str(error) for error in errors] == ["whatever"] and numbers in ([0, 1, 1], [0, 1])
    assert got.values == want.values and len(got.covered) == 2
    with pytest.raises(ZeroDivisionError):
        Evaluator(encoder, styles).measure(IMAGES, run)


def test_names(encoder: VGGEncoder) -> None:
    """A fixed pattern is between pictures: one alone has none."""
    evaluator = Evaluator(encoder, reference(encoder))
    assert set(evaluator.measure(IMAGES[:1], None).values) == MEASURES_OF_ONE
    both = evaluator.measure(IMAGES, None)
    assert set(both.values) == MEASURES and {len(values) for values in both.values.values()} == {3}
    assert set(TITLES) >= MEASURES
