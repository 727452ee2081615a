"""Gram matrices and style loss against their formula in float64."""

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
    with pytest.raises(ValueError, match="gram has no backend 'cuda'; it has reference, native"):
        ops.gram(x, backend="cuda")
