"""Gram matrices and style loss against their formula in float64."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from helpers.bounds import approx, assert_close, rounding
from torch import Tensor

from fastgan import ops


def formula(x: Tensor) -> Tensor:
    _, c, h, w = x.shape
    return torch.einsum("nchw,ndhw->ncd", x.double(), x.double()) / (c * h * w)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 7), (2, 17, 16, 33)])
def test_gram_equals_the_formula(
    shape: tuple[int, ...], layout: Callable[[Tensor], Tensor], rng: torch.Generator
) -> None:
    x = torch.randn(shape, generator=rng)
    result = ops.gram(layout(x))
    assert result.shape == (shape[0], shape[1], shape[1])
    assert_close(result, formula(x), terms=shape[2] * shape[3], steps=2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("autocast", [False, True])
def test_sums_are_float32_whatever_the_input(dtype: torch.dtype, autocast: bool, rng: torch.Generator) -> None:
    x = (torch.rand(1, 4, 128, 128, generator=rng) + 1).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        result = ops.gram(x)
        loss = ops.gram_style_loss(x, torch.zeros(4, 4))
    assert result.dtype == torch.float32
    # 16,384 float32 additions in a row: 6e-5 each; a bfloat16 output or sum would be off by 2e-3 or more.
    sums = 128 * 128
    assert_close(result, formula(x), terms=sums, steps=2)
    assert loss.item() == approx(formula(x).square().mean().item(), terms=sums, steps=5)


def test_style_loss(rng: torch.Generator) -> None:
    x, style = torch.randn(2, 2, 5, 6, 7, generator=rng).double().unbind(0)
    target = formula(style)
    for goal in (target, target[0]):
        expected = (formula(x) - goal).square().mean((1, 2))
        assert_close(ops.gram_style_loss(x, goal, reduction="none"), expected, terms=6 * 7, steps=6)
        assert_close(ops.gram_style_loss(x, goal), expected.mean(), terms=6 * 7, steps=6)
    near = rounding(6 * 7, 4, torch.float64) * target.abs().max().item()
    assert ops.gram_style_loss(style, target).item() <= near**2


def window_losses(x: Tensor, target: Tensor, rows: int, cols: int) -> Tensor:
    """(N, rows * cols) in float64: every window cut out, and compared by itself."""
    height, width = x.shape[2:]
    down = [math.floor(i * height / rows) for i in range(rows + 1)]
    across = [math.floor(j * width / cols) for j in range(cols + 1)]
    cut = [x[:, :, a:b, c:d] for a, b in itertools.pairwise(down) for c, d in itertools.pairwise(across)]
    return torch.stack([(formula(window) - target.double()).square().mean((1, 2)) for window in cut], 1)


# Odd and even sides, single columns and pixels, a window that is the plane; (20, 24, 40): rows of the depth of a block.
@pytest.mark.parametrize(
    ("shape", "windows"),
    [
        ((2, 5, 6, 7), (2, 2)),
        ((1, 17, 9, 11), (3, 1)),
        ((3, 4, 5, 3), (5, 3)),
        ((2, 3, 4, 4), (1, 1)),
        ((1, 20, 24, 40), (2, 5)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_windows_are_compared_each_by_itself(
    shape: tuple[int, ...],
    windows: tuple[int, int],
    dtype: torch.dtype,
    layout: Callable[[Tensor], Tensor],
    rng: torch.Generator,
) -> None:
    x = layout(torch.randn(shape, generator=rng).to(dtype))
    target = torch.randn(shape[0], shape[1], shape[1], generator=rng).double()
    of_windows = window_losses(x, target, *windows).mean(1)
    of_whole = window_losses(x, target, 1, 1)[:, 0]
    target = target if dtype == torch.float64 else target.float()
    bound = {"terms": shape[2] * shape[3], "steps": 7}
    assert_close(ops.gram_style_loss(x, target, windows=windows, reduction="none"), of_windows, **bound)
    assert_close(ops.gram_style_loss(x, target, windows=windows), of_windows.mean(), **bound)
    for weight in (0, 0.3):
        loss, whole = ops.gram_style_loss(
            x, target, windows=windows, window_weight=weight, reduction="none", return_whole=True
        )
        assert_close(loss, (1 - weight) * of_whole + weight * of_windows, **bound)
        assert_close(whole, of_whole, **bound)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_window_is_the_plane_to_the_bit(dtype: torch.dtype, rng: torch.Generator) -> None:
    x, target = torch.randn(2, 5, 6, 7, generator=rng, dtype=dtype), torch.randn(5, 5, generator=rng, dtype=dtype)
    want = ops.gram_style_loss(x, target)
    assert torch.equal(ops.gram_style_loss(x, target, windows=(1, 1), window_weight=0.4), want)
    assert all(torch.equal(value, want) for value in ops.gram_style_loss(x, target, return_whole=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_whole_planes_part_has_no_gradient(dtype: torch.dtype, rng: torch.Generator) -> None:
    x = torch.randn(1, 3, 4, 4, generator=rng, dtype=dtype, requires_grad=True)
    target = torch.zeros(3, 3, dtype=dtype, requires_grad=True)
    for windows in (None, (2, 2)):
        loss, whole = ops.gram_style_loss(x, target, windows=windows, return_whole=True)
        assert loss.requires_grad and not whole.requires_grad


def test_derivatives_with_windows(rng: torch.Generator) -> None:
    x = torch.randn(2, 2, 3, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    target = torch.randn(2, 2, generator=rng, dtype=torch.float64, requires_grad=True)

    def loss(x: Tensor, target: Tensor) -> Tensor:
        return ops.gram_style_loss(x, target, windows=(2, 2), window_weight=0.3)

    assert torch.autograd.gradcheck(loss, (x, target))
    assert torch.autograd.gradgradcheck(loss, (x, target))


def test_derivatives_and_compile(rng: torch.Generator) -> None:
    x = torch.randn(2, 2, 2, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    target = torch.randn(2, 2, generator=rng, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ops.gram_style_loss, (x, target))
    assert torch.autograd.gradgradcheck(ops.gram_style_loss, (x, target))
    compiled = torch.compile(ops.gram_style_loss, fullgraph=True, backend="aot_eager")
    assert_close(compiled(x, target), ops.gram_style_loss(x, target), terms=6, steps=12)


def test_bad_arguments() -> None:
    x = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"target must be \(3, 3\) or \(2, 3, 3\)"):
        ops.gram_style_loss(x, torch.zeros(1, 3, 3))
    with pytest.raises(ValueError, match="non-empty"):
        ops.gram(torch.zeros(3, 4, 4))
    with pytest.raises(ValueError, match="reduction"):
        ops.gram_style_loss(x, torch.zeros(3, 3), reduction="sum")
    for windows in ((0, 1), (5, 1), (1, 5)):
        with pytest.raises(ValueError, match=r"windows must be from \(1, 1\) to \(4, 4\)"):
            ops.gram_style_loss(x, torch.zeros(3, 3), windows=windows)
    for wrong in (2, (2,), (2, 2.0), "22"):
        with pytest.raises(TypeError, match="windows must be None or two whole numbers"):
            ops.gram_style_loss(x, torch.zeros(3, 3), windows=wrong)  # type: ignore[call-overload]
    for weight in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="window_weight must be a number from 0 to 1"):
            ops.gram_style_loss(x, torch.zeros(3, 3), windows=(2, 2), window_weight=weight)
    with pytest.raises(ValueError, match="gram has no backend 'cuda'; it has reference, native"):
        ops.gram(x, backend="cuda")
