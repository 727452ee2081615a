"""PSNR against scikit-image, published values and its own contract."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from helpers.bounds import rounding
from helpers.quality_bounds import psnr_error
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor

from fastgan import ops


def pair(shape: tuple[int, ...], rng: torch.Generator) -> tuple[Tensor, Tensor]:
    x = torch.rand(shape, generator=rng)
    return x, x + 0.1 * torch.randn(shape, generator=rng)


def skimage_psnr(x: Tensor, y: Tensor, data_range: float = 1) -> np.ndarray:
    images = zip(x.double().numpy(), y.double().numpy(), strict=True)
    return np.array([peak_signal_noise_ratio(a, b, data_range=data_range) for a, b in images])


def assert_psnr_close(values: Tensor, expected: np.ndarray, x: Tensor) -> None:
    dtype = values.dtype
    np.testing.assert_allclose(values, expected, rtol=rounding(steps=2, dtype=dtype), atol=psnr_error(x, dtype))


def test_published_values(shared_data: Path, backend: str) -> None:
    def picture(name: str) -> Tensor:
        pixels = np.asarray(Image.open(shared_data / "iqa" / name), dtype=np.float32)
        return torch.from_numpy(pixels.reshape(1, 1, pixels.shape[0], -1))

    camera = torch.from_numpy(skimage.data.camera()).float()[None, None]
    noisy = picture("scikit-image/cam_noisy_seed5_sigma20.png")
    for x, y, published in (
        (camera, noisy, 22.409353),
        (picture("piq/goldhill.gif"), picture("piq/goldhill_jpeg.gif"), 27.431389),
        (picture("piq/I01.BMP"), picture("piq/i01_01_5.bmp"), 21.015690),
    ):
        if backend == "reference":
            x, y = x.double(), y.double()
        value = ops.psnr(x, y, data_range=255, backend=backend)
        near = 0.5e-6 + psnr_error(x, value.dtype)  # half of the last digit
        assert value.item() == pytest.approx(published, rel=rounding(steps=2, dtype=value.dtype), abs=near)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 13, 17), (3, 1, 128, 128), (2, 3, 5, 20000), (2, 5, 3000, 2)])
def test_equals_skimage(
    shape: tuple[int, ...], layout: Callable[[Tensor], Tensor], backend: str, rng: torch.Generator, poisoned: None
) -> None:
    x, y = pair(shape, rng)
    expected = skimage_psnr(x, y)
    assert_psnr_close(ops.psnr(layout(x), layout(y), reduction="none", backend=backend), expected, x)
    assert_psnr_close(ops.psnr(layout(x), y, reduction="none", backend=backend), expected, x)


def test_expanded(backend: str, rng: torch.Generator) -> None:
    x, y = pair((2, 3, 16, 19), rng)
    for view in (x[:1].expand(2, -1, -1, -1), x[:, :1].expand(-1, 3, -1, -1), x[..., :1].expand(-1, -1, -1, 19)):
        values = ops.psnr(view, y, data_range=3, reduction="none", backend=backend)
        assert_psnr_close(values, skimage_psnr(view, y, 3), x)


def test_the_mean_is_of_the_values_and_identical_images_are_infinite(backend: str) -> None:
    x = torch.zeros(2, 1, 4, 4)
    y = torch.stack((torch.full((1, 4, 4), 0.1), torch.full((1, 4, 4), 0.01)))
    assert ops.psnr(x, y, backend=backend).item() == pytest.approx(30, abs=psnr_error(x) + 30 * rounding(steps=2))
    assert ops.psnr(x, x, backend=backend).item() == float("inf")
    y[0, 0, 0, 0] = float("nan")
    assert ops.psnr(x, y, reduction="none", backend=backend).isnan().tolist() == [True, False]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes(dtype: torch.dtype, rng: torch.Generator) -> None:
    x, y = (image.to(dtype) for image in pair((2, 3, 8, 8), rng))
    values = ops.psnr(x, y, reduction="none")
    assert values.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert_psnr_close(values, skimage_psnr(x, y), x)


def test_first_and_second_derivatives(rng: torch.Generator) -> None:
    x, y = (image.double().requires_grad_() for image in pair((2, 1, 2, 3), rng))
    assert torch.autograd.gradcheck(ops.psnr, (x, y))
    assert torch.autograd.gradgradcheck(ops.psnr, (x, y))


def test_bad_arguments() -> None:
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="same shape"):
        ops.psnr(x, torch.zeros(1, 1, 2, 3))
    with pytest.raises(TypeError, match="floating"):
        ops.psnr(x.byte(), x)
    with pytest.raises(ValueError, match="data_range"):
        ops.psnr(x, x, data_range=-1)
    with pytest.raises(ValueError, match="non-empty"):
        ops.psnr(x[:0], x[:0])
