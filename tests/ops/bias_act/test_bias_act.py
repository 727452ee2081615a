"""Bias and activation against torch.nn behind a convolution, and the formula in float64."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.bounds import approx, assert_close, rounding, unit
from torch import Tensor, nn

from fastgan import ops

MODULES: list[tuple[dict[str, Any], nn.Module]] = [
    ({}, nn.Identity()),
    ({"activation": "relu"}, nn.ReLU()),
    ({"activation": "leaky_relu"}, nn.LeakyReLU(0.2)),
    ({"activation": "leaky_relu", "negative_slope": 0.0}, nn.ReLU()),
    ({"activation": "leaky_relu", "negative_slope": 0.01}, nn.LeakyReLU(0.01)),
    ({"activation": "tanh"}, nn.Tanh()),
    ({"clamp": 1.0}, nn.Hardtanh()),
]


@pytest.mark.parametrize(("options", "module"), MODULES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_equals_a_convolution_with_bias_and_a_layer_behind_it(
    options: dict[str, Any], module: nn.Module, memory_format: torch.memory_format, backend: str, rng: torch.Generator
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 17, 3, padding=1)
    image = torch.randn(2, 3, 13, 9, generator=rng)
    expected = module(conv(image))
    without_bias = nn.functional.conv2d(image, conv.weight, padding=1).detach()
    x = without_bias.contiguous(memory_format=memory_format).requires_grad_()
    result = ops.bias_act(x, conv.bias, **options, backend=backend)
    assert result.is_contiguous(memory_format=memory_format)
    assert_close(result, expected, terms=3 * 9, steps=4)  # a convolution, and a tanh, twice

    cotangent = torch.randn(result.shape, generator=rng)
    plain = without_bias.clone().requires_grad_()
    expected = module(plain + conv.bias[:, None, None])
    theirs = torch.autograd.grad(expected, (plain, conv.bias), cotangent)
    ours = torch.autograd.grad(result, (x, conv.bias), cotangent)
    assert_close(ours[0], theirs[0], steps=4)
    assert_close(ours[1], theirs[1], terms=2 * 13 * 9, steps=4)


def test_is_the_epilogue_of_stylegan2(layout: Callable[[Tensor], Tensor], backend: str, rng: torch.Generator) -> None:
    """Karras et al. 2020: leaky relu of slope 0.2, times sqrt(2), clamped."""
    x, bias = 3 * torch.randn(2, 5, 12, 7, generator=rng), torch.randn(5, generator=rng)
    result = ops.bias_act(
        layout(x), bias, activation="leaky_relu", negative_slope=0.2, gain=2**0.5, clamp=2.5, backend=backend
    )
    shifted = x.double() + bias.double().view(1, 5, 1, 1)
    expected = (torch.where(shifted > 0, shifted, 0.2 * shifted) * 2**0.5).clamp(-2.5, 2.5)
    assert_close(result, expected, steps=3)
    assert (expected.abs() == 2.5).any() and (expected.abs() < 2.5).any()


@pytest.mark.parametrize("backend", ["reference", "native"], indirect=True)
def test_at_zero_and_at_the_clamp_gradients_are_those_of_torch(backend: str) -> None:
    x = torch.tensor([-2.0, -1.0, -0.0, 0.0, 1.0, 2.0]).view(1, 1, 2, 3).requires_grad_()
    for options, module in MODULES[1:]:
        if "clamp" in options:
            continue
        ours, theirs = (
            torch.autograd.grad(y.sum(), x)[0] for y in (ops.bias_act(x, **options, backend=backend), module(x))
        )
        assert_close(ours, theirs, steps=4)
    beyond = torch.autograd.grad(ops.bias_act(x, clamp=1.5, backend=backend).sum(), x)[0]
    assert beyond.flatten().tolist() == [0, 1, 1, 1, 1, 0]


@pytest.mark.parametrize("parameters", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(dtype: torch.dtype, parameters: torch.dtype, rng: torch.Generator) -> None:
    x = torch.randn(2, 4, 24, 24, generator=rng).to(dtype)
    bias = torch.randn(4, generator=rng).to(parameters)
    result = ops.bias_act(x, bias, activation="tanh", gain=1.7)
    exact = 1.7 * torch.tanh(x.double() + bias.double().view(1, 4, 1, 1))
    assert result.dtype == dtype
    error = (result.double() - exact).abs()
    assert (error <= exact.abs() * unit(dtype) + 1.7 * rounding(steps=3)).all()  # that of float32 before


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_dtypes(dtype: torch.dtype) -> None:
    x = torch.zeros(1, 2, 3, 4, dtype=dtype, requires_grad=True)
    bias = torch.ones(2, requires_grad=True)
    result = ops.bias_act(x, bias, activation="relu")
    result.sum().backward()
    assert result.dtype == dtype and (result == 1).all()
    assert x.grad is not None and x.grad.dtype == dtype and (x.grad == 1).all()
    assert bias.grad is not None and bias.grad.dtype == torch.float32 and bias.grad.tolist() == [12, 12]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu", "tanh"])
@pytest.mark.parametrize("clamp", [None, 0.9])
def test_first_and_second_derivatives(
    activation: str | None, clamp: float | None, memory_format: torch.memory_format, rng: torch.Generator
) -> None:
    x = torch.randn(2, 3, 2, 3, generator=rng, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    bias = torch.randn(3, generator=rng, dtype=torch.float64).requires_grad_()

    def function(x: Tensor, bias: Tensor) -> Tensor:
        return ops.bias_act(x, bias, activation=activation, gain=1.3, clamp=clamp)

    assert torch.autograd.gradcheck(function, (x, bias))
    assert torch.autograd.gradgradcheck(function, (x, bias))


def test_the_second_derivative_of_the_reference_is_that_of_the_formula(rng: torch.Generator) -> None:
    x = torch.randn(2, 3, 4, 5, generator=rng, requires_grad=True)
    bias = torch.randn(3, generator=rng)
    with ops.second_order():
        (gradient,) = torch.autograd.grad(ops.bias_act(x, bias, activation="tanh").sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(gradient.sum(), x)
    t = torch.tanh(x.detach() + bias.view(1, 3, 1, 1))
    assert_close(gradient.detach(), 1 - t.square(), steps=4, scale=1.0)
    assert_close(second, -2 * t * (1 - t.square()), steps=8, scale=2.0)


def test_input_is_left_alone_and_compiles(backend: str, rng: torch.Generator) -> None:
    x, bias = torch.randn(2, 3, 8, 8, generator=rng), torch.randn(3, generator=rng)
    compiled = torch.compile(ops.bias_act, fullgraph=True, backend="aot_eager")
    for image in (x, x.contiguous(memory_format=torch.channels_last)):
        before = image.clone()
        result = ops.bias_act(image, bias, activation="relu", clamp=0.5, backend=backend)
        assert torch.equal(image, before)
        assert_close(compiled(image, bias, activation="relu", clamp=0.5, backend=backend), result, steps=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": torch.ones(2)}, r"bias must be \(3,\) for this x, got \(2,\)"),
        ({"bias": torch.ones(2, 3)}, r"bias must be \(3,\) for this x, got \(2, 3\)"),
        ({"activation": "gelu"}, "activation must be one of None, 'relu', 'leaky_relu', 'tanh', got 'gelu'"),
        ({"negative_slope": -0.1}, r"negative_slope must be a finite number of at least 0, got -0\.1"),
        ({"gain": float("inf")}, "gain must be a finite number, got inf"),
        ({"gain": float("nan")}, "gain must be a finite number, got nan"),
        ({"clamp": 0.0}, r"clamp must be a finite number above 0, got 0\.0"),
        ({"clamp": -1.0}, r"clamp must be a finite number above 0, got -1\.0"),
        ({"clamp": float("inf")}, "clamp must be a finite number above 0, got inf"),
        ({"x": torch.zeros(3, 4, 4)}, r"x must be a non-empty \(N, C, H, W\) tensor, got shape \(3, 4, 4\)"),
        ({"x": torch.zeros(0, 3, 4, 4)}, r"x must be a non-empty \(N, C, H, W\) tensor, got shape \(0, 3, 4, 4\)"),
        ({"backend": "cudnn"}, "backend: bias_act has no backend 'cudnn'; it has reference, native"),
    ],
)
def test_bad_values(change: dict[str, Any], message: str) -> None:
    arguments = {"x": torch.zeros(2, 3, 4, 4), **change}
    with pytest.raises(ValueError, match=message):
        ops.bias_act(**arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(2, 3, 4, 4, dtype=torch.int32)}, r"x must be a floating-point tensor, got torch\.int32"),
        ({"x": [[1.0]]}, r"x must be a torch\.Tensor, got list"),
        ({"bias": torch.ones(3, dtype=torch.int64)}, r"bias must be a floating-point tensor, got torch\.int64"),
        ({"bias": 1.0}, r"bias must be a torch\.Tensor, got float"),
    ],
)
def test_bad_types(change: dict[str, Any], message: str) -> None:
    arguments = {"x": torch.zeros(2, 3, 4, 4), **change}
    with pytest.raises(TypeError, match=message):
        ops.bias_act(**arguments)


def test_without_an_activation_nothing_is_kept(backend: str) -> None:
    x = torch.ones(1, 1, 2, 2, requires_grad=True)
    y = ops.bias_act(x, gain=2.0, backend=backend)
    y.add_(1)
    y.sum().backward()
    assert x.grad is not None and (x.grad == 2).all()


def test_a_gain_that_rounds_the_result_to_0_leaves_the_gradient(backend: str) -> None:
    x = torch.full((1, 1, 1, 1), 1e-38, requires_grad=True)
    ops.bias_act(x, activation="relu", gain=1e-9, backend=backend).sum().backward()
    assert x.grad is not None and x.grad.item() == approx(1e-9)
