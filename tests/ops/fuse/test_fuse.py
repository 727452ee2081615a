"""Feature fusion against its formulas in float64."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.bounds import assert_close, rounding, unit
from torch import Tensor

from fastgan import ops

MODES = ["additive", "convex", "adain"]
#: Of a plane, and the roundings in a row: two means, two variances, their roots, a quotient, a product, a sum.
SUMS: dict[str, int] = {"terms": 9 * 7, "steps": 9}


def size(content: Tensor, style: Tensor) -> float:
    """The size of the terms: alphas from -1 to 1.7 weigh both inputs by up to 3 together."""
    return 3 * max(content.abs().max().item(), style.abs().max().item())


def formula(content: Tensor, style: Tensor, mode: str, alpha: float | Tensor) -> Tensor:
    c, s = content.double(), style.double()
    a = alpha.double()[:, None, None, None] if isinstance(alpha, Tensor) else alpha
    if mode == "additive":
        return c + a * s
    if mode == "convex":
        return a * c + (1 - a) * s
    mean_c, mean_s = c.mean((2, 3), keepdim=True), s.mean((2, 3), keepdim=True)
    var_c, var_s = ((x - m).square().mean((2, 3), keepdim=True) for x, m in ((c, mean_c), (s, mean_s)))
    transferred = (var_s + 1e-5).sqrt() * (c - mean_c) / (var_c + 1e-5).sqrt() + mean_s
    return (1 - a) * c + a * transferred


def pair(rng: torch.Generator, mode: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    content = torch.randn(3, 4, 9, 7, generator=rng, dtype=dtype) * 2 + 1
    size = (5, 11) if mode == "adain" else (9, 7)
    return content, torch.randn(3, 4, *size, generator=rng, dtype=dtype) * 0.5 - 2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("alpha", [0, 0.0, 0.3, 1.0, 1, -0.5, 1.7, "images"])
def test_equals_the_formula(mode: str, alpha: Any, layout: Callable[[Tensor], Tensor], rng: torch.Generator) -> None:
    content, style = pair(rng, mode)
    alpha = torch.tensor([0.2, 1.5, -1.0]) if alpha == "images" else alpha
    for first, second in ((layout(content), style), (content, layout(style))):
        result = ops.fuse(first, second, mode=mode, alpha=alpha)
        assert_close(result, formula(content, style, mode, alpha), **SUMS, scale=size(content, style))
        assert result.dtype == torch.float32
        expected = first.is_contiguous(memory_format=torch.channels_last)
        assert result.is_contiguous(memory_format=torch.channels_last if expected else torch.contiguous_format)


def test_defaults_are_adain_at_full_style(rng: torch.Generator) -> None:
    content, style = pair(rng, "adain")
    assert_close(ops.fuse(content, style), formula(content, style, "adain", 1), **SUMS, scale=size(content, style))


def test_full_adain_has_the_moments_of_the_style(rng: torch.Generator) -> None:
    content, style = pair(rng, "adain", torch.float64)
    fused = ops.fuse(content, style)
    (variance, mean), (styled, expected), (own, _) = (
        torch.var_mean(x, (2, 3), correction=0) for x in (fused, style, content)
    )
    assert_close(mean, expected, **SUMS)
    assert_close(variance, (styled + 1e-5) * own / (own + 1e-5), **SUMS)
    ours, theirs = (x.flatten(2) - x.flatten(2).mean(2, keepdim=True) for x in (content, fused))
    assert_close(torch.cosine_similarity(ours, theirs, dim=2), torch.ones(3, 4).double(), **SUMS)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_is_rounded_once(mode: str, dtype: torch.dtype, rng: torch.Generator) -> None:
    content, style = (x.to(dtype) for x in pair(rng, mode, torch.float64))
    alpha = torch.tensor([0.4, 0.7, 0.9], dtype=torch.float64)
    for given in (0.7, alpha):
        result = ops.fuse(content, style, mode=mode, alpha=given)
        exact = formula(content, style, mode, given)
        assert result.dtype == dtype
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        near = rounding(63 if mode == "adain" else 1, 9, wide) * size(content, style)
        assert ((result.double() - exact).abs() <= exact.abs() * unit(dtype) + near).all()


def test_mixed_dtypes_compute_in_the_better_one(rng: torch.Generator) -> None:
    content, style = pair(rng, "additive", torch.float64)
    for first, second in ((content.bfloat16(), style), (content, style.bfloat16())):
        result = ops.fuse(first, second, mode="additive")
        assert result.dtype == first.dtype
        exact = formula(first, second, "additive", 1)
        near = rounding(steps=2, dtype=torch.float64) * size(first, second)
        assert ((result.double() - exact).abs() <= exact.abs() * unit(first.dtype) + near).all()


def test_large_means_keep_the_variance(rng: torch.Generator) -> None:
    content, style = pair(rng, "adain")
    for memory_format in (torch.contiguous_format, torch.channels_last):
        first, second = ((x + 1000).contiguous(memory_format=memory_format) for x in (content, style))
        result = ops.fuse(first, second)
        # Means are known to the rounding of their sums; squares less their square would be off by several times that.
        assert_close(result, formula(first, second, "adain", 1), terms=63, steps=2, scale=1000.0)


def test_flat_planes_take_the_mean_of_the_style() -> None:
    content = torch.full((1, 2, 4, 4), 3.0)
    style = torch.tensor([5.0, -1.0]).view(1, 2, 1, 1)
    for plane in (content, content[..., :1, :1]):
        for alpha in (1.0, 0.25):
            want = ((1 - alpha) * 3 + alpha * style).expand(plane.shape)
            assert_close(ops.fuse(plane, style, alpha=alpha), want, terms=16, steps=9)


@pytest.mark.parametrize("mode", MODES)
def test_first_and_second_derivatives(mode: str, rng: torch.Generator) -> None:
    content = torch.randn(2, 2, 2, 3, generator=rng, dtype=torch.float64).requires_grad_()
    size = (3, 2) if mode == "adain" else (2, 3)
    style = torch.randn(2, 2, *size, generator=rng, dtype=torch.float64).requires_grad_()
    alpha = torch.tensor([0.3, 0.8], dtype=torch.float64, requires_grad=True)

    def function(content: Tensor, style: Tensor, alpha: Tensor) -> Tensor:
        return ops.fuse(content, style, mode=mode, alpha=alpha).tanh()

    assert torch.autograd.gradcheck(function, (content, style, alpha))
    assert torch.autograd.gradgradcheck(function, (content, style, alpha))


@pytest.mark.parametrize("mode", MODES)
def test_inputs_are_left_alone_and_it_compiles(mode: str, rng: torch.Generator) -> None:
    inputs = pair(rng, mode)
    before = [x.clone() for x in inputs]
    alpha = torch.tensor([0.0, 0.5, 1.0])
    want = ops.fuse(*inputs, mode=mode, alpha=alpha)
    compiled = torch.compile(ops.fuse, fullgraph=True, backend="aot_eager")
    assert_close(compiled(*inputs, mode=mode, alpha=alpha), want, **SUMS, scale=2 * size(*inputs))
    assert all(torch.equal(x, y) for x, y in zip(inputs, before, strict=True))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"mode": "mlp"}, ValueError, "mode must be one of 'additive', 'convex', 'adain', got 'mlp'"),
        ({"style": torch.zeros(1, 3, 4, 4)}, ValueError, r"style must be \(2, 3, h, w\) for this content"),
        ({"style": torch.zeros(2, 4, 4, 4)}, ValueError, r"style must be \(2, 3, h, w\) for this content"),
        ({"style": torch.zeros(2, 3, 4, 5), "mode": "additive"}, ValueError, r"style must be \(2, 3, 4, 4\) for add"),
        ({"style": torch.zeros(2, 3, 1, 1), "mode": "convex"}, ValueError, r"style must be \(2, 3, 4, 4\) for convex"),
        ({"style": torch.zeros(2, 3)}, ValueError, "style must be a non-empty"),
        ({"content": torch.zeros(3, 4, 4)}, ValueError, "content must be a non-empty"),
        ({"content": torch.zeros(2, 3, 4, 4, dtype=torch.int64)}, TypeError, "content must be a floating"),
        ({"style": torch.zeros(2, 3, 4, 4, dtype=torch.int64)}, TypeError, "style must be a floating"),
        ({"alpha": torch.ones(3)}, ValueError, r"alpha must be a number or \(2,\) for this content, got shape \(3,\)"),
        ({"alpha": torch.ones(())}, ValueError, "alpha must be a number or"),
        ({"alpha": torch.ones(2, dtype=torch.int64)}, TypeError, "alpha must be a floating"),
        ({"alpha": "1"}, TypeError, "alpha must be a number or a torch.Tensor, got str"),
        ({"alpha": True}, TypeError, "alpha must be a number or a torch.Tensor, got bool"),
        ({"backend": "triton"}, ValueError, "fuse cannot use 'triton' here: it runs on cuda"),
    ],
)
def test_bad_arguments(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"content": torch.zeros(2, 3, 4, 4), "style": torch.zeros(2, 3, 4, 4), **change}
    with pytest.raises(error, match=message):
        ops.fuse(arguments.pop("content"), arguments.pop("style"), **arguments)
