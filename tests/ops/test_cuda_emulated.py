"""The CUDA kernels of ssim and psnr, run by the emulator, against the references and their gradients in float64."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.bounds import rounding, unit
from helpers.cuda_emulator.library import CTensor, Emulated
from helpers.quality_bounds import psnr_error, ssim_error
from torch import Tensor

from fastgan import ops

Kernel = Callable[[Tensor, Tensor, Tensor, Tensor | None, Tensor | None], Tensor]


def pair(shape: tuple[int, ...], rng: torch.Generator, data_range: float = 1.0) -> tuple[Tensor, Tensor]:
    x = data_range * torch.rand(shape, generator=rng)
    return x, x + 0.1 * data_range * torch.randn(shape, generator=rng)


def nan_like(tensor: Tensor) -> Tensor:
    """In memory as dense as the tensor's own can be; no element of it is written twice."""
    return torch.full_like(tensor, torch.nan) if 0 not in tensor.stride() else torch.full(tensor.shape, torch.nan)


def ssim_kernel(
    emulated: Emulated, data_range: float, window: str = "gaussian", window_size: int = 11, sigma: float = 1.5
) -> Kernel:
    def run(x: Tensor, y: Tensor, grad_out: Tensor, grad_x: Tensor | None, grad_y: Tensor | None) -> Tensor:
        shape, images = tuple(x.shape), (CTensor.of(x), CTensor.of(y))
        options = (data_range, int(window == "gaussian"), window_size, sigma)
        out = torch.full((shape[0],), torch.nan)
        emulated.call("ssim_forward", *images, shape, *options, out)
        emulated.call("ssim_backward", *images, shape, *options, grad_out, CTensor.of(grad_x), CTensor.of(grad_y))
        return out

    return run


def psnr_kernel(emulated: Emulated, data_range: float) -> Kernel:
    def run(x: Tensor, y: Tensor, grad_out: Tensor, grad_x: Tensor | None, grad_y: Tensor | None) -> Tensor:
        shape, images = tuple(x.shape), (CTensor.of(x), CTensor.of(y))
        out = torch.full((shape[0],), torch.nan)
        emulated.call("psnr_forward", *images, shape, data_range, out)
        emulated.call(
            "psnr_backward", *images, shape, data_range, out, grad_out, CTensor.of(grad_x), CTensor.of(grad_y)
        )
        return out

    return run


def check(
    emulated: Emulated,
    run: Kernel,
    op: Callable[..., Tensor],
    x: Tensor,
    y: Tensor,
    error: float,
    share: float,
    **options: Any,
) -> None:
    """Both gradients, then each alone, with the threads in the opposite order: the same bits.

    Values are within `error`, gradients within a `share` of the largest and a rounding of their dtype.
    """
    wide = [image.double().requires_grad_() for image in (x, y)]
    expected = op(*wide, reduction="none", backend="reference", **options)
    grad_out = torch.linspace(-1, 1.5, len(x))
    gradients = torch.autograd.grad(expected, wide, grad_out.double())
    grad_x, grad_y, only_x, only_y = nan_like(x), nan_like(y), nan_like(x), nan_like(y)
    out = run(x, y, grad_out, grad_x, grad_y)
    torch.testing.assert_close(out.double(), expected.detach(), atol=error, rtol=rounding())
    for have, want in zip((grad_x, grad_y), gradients, strict=True):
        largest = want.abs().max().item()
        torch.testing.assert_close(have.double(), want, atol=(unit(have.dtype) + share) * largest, rtol=0)
    with emulated.reversed_threads():
        assert torch.equal(run(x, y, grad_out, only_x, None), out)
    assert torch.equal(run(x, y, grad_out, None, only_y), out)
    assert torch.equal(only_x, grad_x)
    assert torch.equal(only_y, grad_y)


def check_ssim(emulated: Emulated, x: Tensor, y: Tensor, data_range: float = 1.0, **options: Any) -> None:
    kernel = ssim_kernel(emulated, data_range, **options)
    error = ssim_error(x, y, options.get("window_size", 11), data_range)
    check(emulated, kernel, ops.ssim, x, y, error, 2 * error, data_range=data_range, **options)


def check_psnr(emulated: Emulated, x: Tensor, y: Tensor, data_range: float = 1.0) -> None:
    share = rounding(x[0].numel(), 6)
    check(emulated, psnr_kernel(emulated, data_range), ops.psnr, x, y, psnr_error(x), share, data_range=data_range)


# One window; odd sizes; more than one block across and down, in the forward and in the backward pass.
@pytest.mark.parametrize("shape", [(1, 1, 11, 11), (3, 2, 13, 17), (1, 1, 45, 31), (1, 1, 12, 173), (2, 1, 29, 263)])
def test_ssim(emulated: Emulated, shape: tuple[int, ...], rng: torch.Generator) -> None:
    check_ssim(emulated, *pair(shape, rng))


@pytest.mark.parametrize(
    "options",
    [
        {"window": "uniform", "window_size": 7},
        {"window": "uniform", "window_size": 11},
        {"window_size": 7, "sigma": 0.8},
        {"window_size": 5, "sigma": 1.0},
        {"window": "uniform", "window_size": 9},
        {"window_size": 15, "sigma": 3.0},
    ],
)
@pytest.mark.parametrize("shape", [(1, 2, 19, 27), (1, 1, 16, 259)])
def test_ssim_windows(
    emulated: Emulated, options: dict[str, Any], shape: tuple[int, ...], rng: torch.Generator
) -> None:
    check_ssim(emulated, *pair(shape, rng), **options)


@pytest.mark.parametrize("window_size", [7, 9])
@pytest.mark.parametrize(("data_range", "mean"), [(1.0, 1000.0), (255.0, 0.0), (65535.0, 30000.0)])
def test_ssim_ranges_and_means(
    emulated: Emulated, window_size: int, data_range: float, mean: float, rng: torch.Generator
) -> None:
    x, y = pair((1, 1, 21, 33), rng, data_range)
    check_ssim(emulated, x + mean, y + mean, data_range, window_size=window_size)


@pytest.mark.parametrize("check_op", [check_ssim, check_psnr])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_layouts(
    emulated: Emulated,
    check_op: Callable[..., None],
    dtype: torch.dtype,
    layout: Callable[[Tensor], Tensor],
    rng: torch.Generator,
) -> None:
    x, y = pair((2, 3, 14, 24), rng)
    check_op(emulated, layout(x.to(dtype)), layout(y.to(dtype)))


@pytest.mark.parametrize("check_op", [check_ssim, check_psnr])
def test_mixed_and_expanded_layouts(emulated: Emulated, check_op: Callable[..., None], rng: torch.Generator) -> None:
    x, y = pair((2, 2, 15, 20), rng)
    check_op(emulated, x.contiguous(memory_format=torch.channels_last), y[:1].expand_as(y))


def test_ssim_of_unusual_windows_takes_any_layout(
    emulated: Emulated, layout: Callable[[Tensor], Tensor], rng: torch.Generator
) -> None:
    x, y = pair((2, 2, 12, 14), rng)
    check_ssim(emulated, layout(x), layout(y), window_size=3)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 7), (1, 1, 64, 130), (3, 1, 1, 9)])
def test_psnr(emulated: Emulated, shape: tuple[int, ...], rng: torch.Generator) -> None:
    check_psnr(emulated, *pair(shape, rng, 255.0), data_range=255.0)


def test_psnr_of_identical_images(emulated: Emulated, rng: torch.Generator) -> None:
    x, _ = pair((1, 2, 4, 4), rng)
    grad = nan_like(x)
    out = psnr_kernel(emulated, 1.0)(x, x, torch.ones(1), grad, None)
    assert out.item() == torch.inf
    assert torch.equal(grad, torch.zeros_like(grad))


def test_mixed_dtypes_are_refused(emulated: Emulated, rng: torch.Generator) -> None:
    x, y = pair((1, 1, 12, 12), rng)
    for kernel in (ssim_kernel(emulated, 1.0), psnr_kernel(emulated, 1.0)):
        with pytest.raises(RuntimeError, match="one dtype"):
            kernel(x, y.half(), torch.ones(1), None, None)
