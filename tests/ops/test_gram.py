"""Gram matrices and style loss against their formula in float64."""

from collections.abc import Callable

import pytest
import torch
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
    torch.testing.assert_close(result.double(), formula(x), atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("autocast", [False, True])
def test_sums_are_float32_whatever_the_input(dtype: torch.dtype, autocast: bool, rng: torch.Generator) -> None:
    x = (torch.rand(1, 4, 128, 128, generator=rng) + 1).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        result = ops.gram(x)
        loss = ops.gram_style_loss(x, torch.zeros(4, 4))
    assert result.dtype == torch.float32
    # 16,384 float32 additions in a row: 1e-5; a bfloat16 output or sum would be off by 2e-3 or more.
    torch.testing.assert_close(result.double(), formula(x), rtol=5e-5, atol=0)
    assert loss.item() == pytest.approx(formula(x).square().mean().item(), rel=1e-4)


def test_style_loss(rng: torch.Generator) -> None:
    x, style = torch.randn(2, 2, 5, 6, 7, generator=rng).double().unbind(0)
    target = formula(style)
    for goal in (target, target[0]):
        expected = (formula(x) - goal).square().mean((1, 2))
        torch.testing.assert_close(ops.gram_style_loss(x, goal, reduction="none"), expected)
        torch.testing.assert_close(ops.gram_style_loss(x, goal), expected.mean())
    assert ops.gram_style_loss(style, target).item() == pytest.approx(0, abs=1e-20)


def test_derivatives_and_compile(rng: torch.Generator) -> None:
    x = torch.randn(2, 2, 2, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    target = torch.randn(2, 2, generator=rng, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ops.gram_style_loss, (x, target))
    assert torch.autograd.gradgradcheck(ops.gram_style_loss, (x, target))
    compiled = torch.compile(ops.gram_style_loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, target), ops.gram_style_loss(x, target))


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
