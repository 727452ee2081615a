"""SSIM against scikit-image, published values and its own contract."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from helpers.bounds import rounding
from helpers.machine import needs
from helpers.quality_bounds import ssim_error
from PIL import Image
from skimage.metrics import structural_similarity
from torch import Tensor

from fastgan import ops

GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


def pair(shape: tuple[int, ...], rng: torch.Generator, noise: float = 0.1) -> tuple[Tensor, Tensor]:
    x = torch.rand(shape, generator=rng)
    return x, x + noise * torch.randn(shape, generator=rng)


def skimage_ssim(x: Tensor, y: Tensor, **options: Any) -> np.ndarray:
    images = zip(x.double().numpy(), y.double().numpy(), strict=True)
    return np.array([structural_similarity(a, b, channel_axis=0, **options) for a, b in images])


def assert_ssim_close(values: Tensor, expected: np.ndarray, x: Tensor, y: Tensor) -> None:
    np.testing.assert_allclose(values, expected, rtol=0, atol=ssim_error(x, y, dtype=values.dtype))


def picture(path: Path) -> Tensor:
    pixels = np.asarray(Image.open(path), dtype=np.float32)
    return torch.from_numpy(pixels if pixels.ndim == 3 else pixels[..., None]).permute(2, 0, 1)[None]


@pytest.mark.parametrize(
    ("first", "second", "options", "published", "half_a_digit"),
    [
        ("camera", "scikit-image/cam_noisy_seed5_sigma20.png", {}, 0.357959, 1e-3),  # as exact as it is published
        ("camera", "scikit-image/cam_noisy_seed5_sigma20.png", {}, 0.357964, 0.5e-6),
        (
            "camera",
            "scikit-image/cam_noisy_seed5_sigma20.png",
            {"window": "uniform", "window_size": 7},
            0.3674518,
            0.5e-7,
        ),
        ("piq/goldhill.gif", "piq/goldhill_jpeg.gif", {}, 0.682372, 0.5e-6),
        ("piq/I01.BMP", "piq/i01_01_5.bmp", {}, 0.527070, 0.5e-6),
    ],
)
def test_published_values(
    shared_data: Path,
    backend: str,
    first: str,
    second: str,
    options: dict[str, Any],
    published: float,
    half_a_digit: float,
) -> None:
    iqa = shared_data / "iqa"
    x = torch.from_numpy(skimage.data.camera()).float()[None, None] if first == "camera" else picture(iqa / first)
    y = picture(iqa / second)
    if backend == "reference":
        x, y = x.double(), y.double()
    value = ops.ssim(x, y, data_range=255, backend=backend, **options)
    near = half_a_digit + ssim_error(x, y, options.get("window_size", 11), 255, value.dtype)
    assert value.item() == pytest.approx(published, rel=0, abs=near)


@pytest.mark.parametrize("shape", [(1, 1, 11, 11), (2, 3, 13, 17), (1, 2, 47, 266), (2, 1, 75, 267), (1, 1, 53, 600)])
def test_gaussian_equals_skimage(shape: tuple[int, ...], backend: str, rng: torch.Generator) -> None:
    x, y = pair(shape, rng)
    values = ops.ssim(x, y, reduction="none", backend=backend)
    assert values.shape == shape[:1]
    assert values.dtype == torch.float32
    assert_ssim_close(values, skimage_ssim(x, y, data_range=1, **GAUSSIAN), x, y)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"window": "uniform", "window_size": 7}, {"win_size": 7}),
        ({"window": "uniform", "window_size": 11}, {"win_size": 11}),
        ({"window": "uniform", "window_size": 3}, {"win_size": 3}),
        ({"window_size": 15, "sigma": 2.0}, {**GAUSSIAN, "sigma": 2.0}),
        ({"window_size": 7, "sigma": 0.8}, {**GAUSSIAN, "sigma": 0.8}),
    ],
)
def test_windows_equal_skimage(
    ours: dict[str, Any], theirs: dict[str, Any], backend: str, rng: torch.Generator
) -> None:
    x, y = pair((2, 3, 41, 37), rng)
    value = ops.ssim(100 * x, 100 * y, data_range=100, backend=backend, **ours)
    expected = skimage_ssim(100 * x, 100 * y, data_range=100, **theirs).mean()
    near = ssim_error(100 * x, 100 * y, ours["window_size"], 100)
    assert value.item() == pytest.approx(expected, rel=0, abs=near)


def test_layouts(layout: Callable[[Tensor], Tensor], backend: str, rng: torch.Generator, poisoned: None) -> None:
    x, y = pair((2, 3, 33, 45), rng)
    expected = skimage_ssim(x, y, data_range=1, **GAUSSIAN)
    assert_ssim_close(ops.ssim(layout(x), layout(y), reduction="none", backend=backend), expected, x, y)
    assert_ssim_close(ops.ssim(layout(x), y, reduction="none", backend=backend), expected, x, y)


def test_expanded(backend: str, rng: torch.Generator) -> None:
    x, y = pair((2, 3, 16, 19), rng)
    one, gray = x[:1].expand(2, -1, -1, -1), x[:, :1].expand(-1, 3, -1, -1)
    for view in (one, gray):
        expected = skimage_ssim(view, y, data_range=1, **GAUSSIAN)
        assert_ssim_close(ops.ssim(view, y, reduction="none", backend=backend), expected, view, y)


@pytest.mark.parametrize("window", ["gaussian", "uniform"])
def test_a_large_mean_keeps_the_variance(window: str, backend: str, rng: torch.Generator) -> None:
    x, y = pair((2, 2, 40, 50), rng)
    x, y = x + 1000, y + 1000
    options = GAUSSIAN if window == "gaussian" else {"win_size": 11}
    expected = skimage_ssim(x, y, data_range=1, **options)
    assert_ssim_close(ops.ssim(x, y, window=window, reduction="none", backend=backend), expected, x, y)


def test_identical_and_broken_images(backend: str, rng: torch.Generator) -> None:
    x, y = pair((2, 1, 20, 20), rng)
    assert ops.ssim(x, x, backend=backend).item() == pytest.approx(1, rel=0, abs=ssim_error(x, x))
    y[1, 0, 10, 10] = float("nan")
    first, second = ops.ssim(x, y, reduction="none", backend=backend)
    assert first.isfinite()
    assert second.isnan()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes(dtype: torch.dtype, rng: torch.Generator) -> None:
    x, y = (image.to(dtype) for image in pair((2, 3, 24, 24), rng))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = ops.ssim(x, y, reduction="none")
    assert values.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert_ssim_close(values, skimage_ssim(x, y, data_range=1, **GAUSSIAN), x, y)


def test_first_and_second_derivatives(rng: torch.Generator) -> None:
    x, y = (image.double().requires_grad_() for image in pair((1, 1, 6, 7), rng))

    def uniform(a: Tensor, b: Tensor) -> Tensor:
        return ops.ssim(a, b, window="uniform", window_size=5)

    def gaussian(a: Tensor, b: Tensor) -> Tensor:
        return ops.ssim(a, b, window_size=5, sigma=1.0, data_range=2.0, reduction="none")

    for function in (uniform, gaussian):
        assert torch.autograd.gradcheck(function, (x, y))
        assert torch.autograd.gradgradcheck(function, (x, y))


def test_compiles_as_one_graph(backend: str, rng: torch.Generator) -> None:
    x, y = pair((2, 1, 16, 16), rng)
    compiled = torch.compile(lambda a, b: ops.ssim(a, b, backend=backend), fullgraph=True, backend="aot_eager")
    expected = skimage_ssim(x, y, data_range=1, **GAUSSIAN).mean()
    assert compiled(x, y).item() == pytest.approx(expected, rel=0, abs=ssim_error(x, y))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"window_size": 10}, ValueError, "window_size must be an odd integer"),
        ({"window_size": 21}, ValueError, "images must be at least 21 x 21 pixels"),
        ({"window": "uniform", "window_size": 1}, ValueError, "at least 3"),
        ({"window": "box"}, ValueError, "window must be one of 'gaussian', 'uniform', got 'box'"),
        ({"reduction": "sum"}, ValueError, "reduction must be one of"),
        ({"data_range": 0}, ValueError, "data_range must be a finite number above 0"),
        ({"sigma": float("nan")}, ValueError, "sigma must be"),
        ({"backend": "cuda"}, ValueError, "ssim has no backend 'cuda'; it has reference, native"),
        ({"y": torch.zeros(1, 1, 16, 17)}, ValueError, "same shape"),
        ({"y": torch.zeros(16, 16)}, ValueError, "y must be a non-empty"),
        ({"y": torch.zeros(1, 1, 16, 16, dtype=torch.uint8)}, TypeError, "y must be a floating-point tensor"),
        ({"y": np.zeros((1, 1, 16, 16))}, TypeError, r"y must be a torch\.Tensor, got ndarray"),
        ({"y": torch.zeros(1, 1, 16, 16, dtype=torch.float64), "backend": "native"}, ValueError, "not float64"),
    ],
)
def test_bad_arguments(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"x": torch.zeros(1, 1, 16, 16), "y": torch.zeros(1, 1, 16, 16), **change}
    with pytest.raises(error, match=message):
        ops.ssim(arguments.pop("x"), arguments.pop("y"), **arguments)


@pytest.mark.parametrize("shape", [(2, 3, 64, 150), (1, 1, 11, 11), (1, 2, 140, 259)])
@pytest.mark.parametrize("window_size", [11, 7, 5])
def test_the_value_is_the_same_with_and_without_the_gradient(
    shape: tuple[int, ...], window_size: int, rng: torch.Generator
) -> None:
    x, y = torch.rand(2, *shape, generator=rng).unbind(0)
    value = ops.ssim(x, y, window_size=window_size, reduction="none")
    for wanted in ((True, False), (False, True), (True, True)):
        pair = [image.clone().requires_grad_(needed) for image, needed in zip((x, y), wanted, strict=True)]
        with_gradient = ops.ssim(*pair, window_size=window_size, reduction="none")
        near = 2 * ssim_error(x, y, window_size)
        torch.testing.assert_close(with_gradient.detach(), value, rtol=0, atol=near)


@needs("the extension")
def test_ssim_of_values_far_beyond_the_data_range() -> None:
    x, y = (torch.rand(1, 1, 20, 20, generator=torch.Generator().manual_seed(seed)) * 1e12 for seed in (0, 1))
    exact = ops.ssim(x.double(), y.double(), backend="reference")
    have = ops.ssim(x, y, backend="native").double()
    torch.testing.assert_close(have, exact, rtol=rounding(), atol=ssim_error(x, y))
