"""Instance normalization against torch.nn and its formula in float64."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.bounds import assert_close, rounding, unit
from torch import Tensor, nn

from fastgan import ops

#: A mean, a variance, its root, a difference, and products and a sum with what scales them.
STEPS = 6


def formula(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    x = x.double()
    variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    result = (x - mean) / torch.sqrt(variance + eps)
    if weight is not None:
        result = result * weight.double()[..., None, None]
    return result if bias is None else result + bias.double()[..., None, None]


@pytest.mark.parametrize("shape", [(1, 1, 2, 1), (2, 3, 13, 17), (3, 8, 32, 32)])
@pytest.mark.parametrize("per_image", [False, True])
def test_equals_the_formula(
    shape: tuple[int, ...], per_image: bool, layout: Callable[[Tensor], Tensor], rng: torch.Generator
) -> None:
    x = torch.randn(shape, generator=rng)
    weight, bias = torch.randn(2, *(shape[:2] if per_image else shape[1:2]), generator=rng)
    result = ops.instance_norm(layout(x), weight, bias)
    assert_close(result, formula(x, weight, bias), terms=shape[2] * shape[3], steps=STEPS)
    if layout(x).is_contiguous(memory_format=torch.channels_last):
        assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("options", "module"),
    [
        ({"activation": "relu"}, nn.ReLU()),
        ({"activation": "leaky_relu"}, nn.LeakyReLU(0.2)),
        ({"activation": "leaky_relu", "negative_slope": 0.01}, nn.LeakyReLU(0.01)),
        ({"activation": "tanh"}, nn.Tanh()),
        ({"eps": 0.1}, nn.Identity()),
    ],
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_equals_torch_nn_with_gradients(
    options: dict[str, Any], module: nn.Module, memory_format: torch.memory_format, rng: torch.Generator
) -> None:
    x = torch.randn(2, 4, 9, 7, generator=rng).to(memory_format=memory_format).requires_grad_()
    residual = torch.randn(2, 4, 9, 7, generator=rng).requires_grad_()
    norm = nn.InstanceNorm2d(4, eps=options.get("eps", 1e-5), affine=True)
    nn.init.normal_(norm.weight, generator=rng)
    nn.init.normal_(norm.bias, generator=rng)
    inputs = (x, norm.weight, norm.bias, residual)
    expected = module(norm(x)) + residual
    result = ops.instance_norm(*inputs, **options)
    assert_close(result, expected, terms=9 * 7, steps=2 * STEPS)
    # No gradient where rounding decides on which side of a kink a value lies.
    before = norm(x).detach().abs()
    cotangent = torch.randn(expected.shape, generator=rng) * (before > rounding(9 * 7, STEPS) * before.max())
    for ours, theirs in zip(*(torch.autograd.grad(y, inputs, cotangent) for y in (result, expected)), strict=True):
        assert_close(ours, theirs, terms=2 * 9 * 7, steps=4 * STEPS)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("parameters", [torch.float32, torch.bfloat16, None])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(
    dtype: torch.dtype, parameters: torch.dtype | None, memory_format: torch.memory_format, rng: torch.Generator
) -> None:
    x = (torch.randn(2, 4, 24, 24, generator=rng) + 3).to(dtype).to(memory_format=memory_format)
    weight, bias = (None, None) if parameters is None else torch.randn(2, 4, generator=rng).to(parameters).unbind(0)
    result = ops.instance_norm(x, weight, bias)
    assert result.dtype == dtype
    exact = formula(x, weight, bias)
    error = (result.double() - exact).abs()
    near = rounding(24 * 24, STEPS) * exact.abs().max()  # that of float32 before
    assert (error <= exact.abs() * unit(dtype) + near).all()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_large_mean_keeps_the_variance(memory_format: torch.memory_format, rng: torch.Generator) -> None:
    x = (torch.randn(2, 3, 32, 32, generator=rng) + 1000).to(memory_format=memory_format)
    # The mean itself is only known to the rounding of its sum; squares less its square would be off by six times that.
    assert_close(ops.instance_norm(x), formula(x), terms=32 * 32, scale=1000.0)


def test_a_plane_of_one_pixel_gives_the_bias() -> None:
    bias = torch.tensor([1.0, -2.0])
    result = ops.instance_norm(torch.randn(3, 2, 1, 1), None, bias)
    assert_close(result, bias.view(1, 2, 1, 1).expand(3, 2, 1, 1), steps=2)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_first_and_second_derivatives(memory_format: torch.memory_format, rng: torch.Generator) -> None:
    x = torch.randn(2, 2, 2, 3, generator=rng, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    weight, bias = (torch.randn(2, 2, generator=rng, dtype=torch.float64).requires_grad_() for _ in range(2))
    residual = x.detach().clone()

    def function(*inputs: Tensor) -> Tensor:
        return ops.instance_norm(*inputs, activation="tanh")

    assert torch.autograd.gradcheck(function, (x, weight, bias, residual))
    assert torch.autograd.gradgradcheck(function, (x, weight, bias, residual))


def test_input_is_left_alone_and_compiles(rng: torch.Generator) -> None:
    x = torch.randn(2, 3, 8, 8, generator=rng)
    for image in (x, x.contiguous(memory_format=torch.channels_last)):
        before = image.clone()
        result = ops.instance_norm(image, residual=image, activation="relu")
        assert torch.equal(image, before)
        compiled = torch.compile(ops.instance_norm, fullgraph=True, backend="aot_eager")
        assert_close(compiled(image, residual=image, activation="relu"), result, terms=64, steps=2 * STEPS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": torch.ones(2)}, r"weight must be \(3,\) or \(2, 3\) for this x, got \(2,\)"),
        ({"bias": torch.ones(1, 3)}, r"bias must be"),
        ({"residual": torch.ones(2, 3, 4, 5)}, "residual must have the shape of x"),
        ({"activation": "gelu"}, "activation must be one of None, 'relu', 'leaky_relu', 'tanh', got 'gelu'"),
        ({"negative_slope": -0.1}, "negative_slope must be a finite number of at least 0"),
        ({"eps": 0.0}, "eps must be a finite number above 0"),
    ],
)
def test_bad_arguments(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ops.instance_norm(torch.zeros(2, 3, 4, 4), **change)
    with pytest.raises(TypeError, match="floating"):
        ops.instance_norm(torch.zeros(2, 3, 4, 4, dtype=torch.int32))
