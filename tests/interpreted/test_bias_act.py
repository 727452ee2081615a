"""bias_act's Triton kernels against the float64 reference."""

import itertools
from collections.abc import Callable

import pytest
import torch
from helpers.bounds import STORED, assert_close, rounding
from torch import Tensor

from fastgan import ops
from fastgan.ops import _triton
from fastgan.ops.bias_act import triton as kernels

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
#: A sum with the bias, an activation (two for tanh), a product with the gain.
STEPS = 4
SHAPES = [(1, 1, 1, 1), (2, 3, 5, 7), (1, 33, 8, 8), (3, 4, 1, 65), (1, 2, 47, 46)]


def run(
    x: Tensor, bias: Tensor | None, cotangent: Tensor, backend: str, **options: object
) -> tuple[Tensor, Tensor, Tensor | None]:
    leaf = x.detach().requires_grad_()
    other = None if bias is None else bias.detach().requires_grad_()
    out = ops.bias_act(leaf, other, backend=backend, **options)  # type: ignore[arg-type]
    wrt = [leaf] if other is None else [leaf, other]
    grads = torch.autograd.grad(out, wrt, cotangent.to(out.dtype))
    return out.detach(), grads[0], grads[1] if other is not None else None


def agree(x: Tensor, bias: Tensor | None, cotangent: Tensor, **options: object) -> None:
    with _triton.recorded(run=True) as launched:
        have = run(x, bias, cotangent, "triton", **options)
    assert [each.name for each in launched] == ["bias_act_fwd_kernel", "bias_act_bwd_kernel"]
    want = run(x.double(), None if bias is None else bias.double(), cotangent.double(), "reference", **options)
    assert have[0].dtype == x.dtype and have[0].stride() == torch.empty_like(x).stride()
    for got, expected, terms in zip(have, want, (1, 1, x[:, 0].numel()), strict=True):
        if expected is not None:
            assert got is not None
            near = (STORED[got.dtype] + rounding(terms, STEPS)) * float(expected.abs().max())
            torch.testing.assert_close(got.double(), expected, rtol=0, atol=near)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_and_gradients(
    shape: tuple[int, ...], dtype: torch.dtype, layout: Callable[[Tensor], Tensor], rng: torch.Generator
) -> None:
    x = layout(torch.randn(shape, generator=rng).to(dtype))
    cotangent = torch.randn(x.shape, generator=rng).to(dtype)
    agree(x, torch.randn(x.shape[1], generator=rng), cotangent, activation="leaky_relu", gain=1.4)


@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu", "tanh"])
@pytest.mark.parametrize(("gain", "clamp"), [(1.0, None), (-1.5, 0.8)])
@pytest.mark.parametrize("biased", [False, True])
def test_options(activation: str | None, gain: float, clamp: float | None, biased: bool, rng: torch.Generator) -> None:
    x = torch.randn(2, 5, 9, 11, generator=rng)
    bias = torch.randn(5, generator=rng) if biased else None
    cotangent = torch.randn(x.shape, generator=rng)
    agree(x, bias, cotangent, activation=activation, gain=gain, clamp=clamp, negative_slope=0.3)
    agree(x, bias, cotangent[:, :1, :1, :1].expand(x.shape), activation=activation, gain=gain, clamp=clamp)


@pytest.mark.parametrize(
    ("table", "number"), list(itertools.product(("NCHW", "CHANNELS_LAST"), range(4))), ids=lambda value: str(value)
)
def test_every_configuration(table: str, number: int, monkeypatch: pytest.MonkeyPatch, rng: torch.Generator) -> None:
    monkeypatch.setattr(kernels, table, getattr(kernels, table)[number : number + 1])
    x = torch.randn(2, 131, 3, 43, generator=rng)
    if table == "CHANNELS_LAST":
        x = x.contiguous(memory_format=torch.channels_last)
    agree(x, torch.randn(131, generator=rng), torch.randn(x.shape, generator=rng), activation="tanh")


@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu", "tanh"])
def test_nan_and_infinities_pass_as_in_the_reference(activation: str | None) -> None:
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1.0, -1.0]).view(1, 1, 1, 7)
    cotangent = torch.ones(x.shape)
    have = run(x, None, cotangent, "triton", activation=activation)
    want = run(x, None, cotangent, "reference", activation=activation)
    for got, expected in zip(have[:2], want[:2], strict=True):
        assert_close(got, expected, steps=2 * STEPS)


@pytest.mark.parametrize("activation", ["leaky_relu", "tanh"])
def test_the_gradient_has_a_gradient(activation: str, rng: torch.Generator) -> None:
    x, bias = torch.randn(2, 3, 4, 5, generator=rng), torch.randn(3, generator=rng)
    cotangent = torch.randn(x.shape, generator=rng)

    def penalty(backend: str, dtype: torch.dtype) -> list[Tensor]:
        leaves = [each.to(dtype).requires_grad_() for each in (x, bias, cotangent)]
        out = ops.bias_act(leaves[0], leaves[1], activation=activation, gain=1.3, backend=backend)
        gradients = torch.autograd.grad(out, leaves[:2], leaves[2], create_graph=True)
        loss = sum(each.square().sum() for each in gradients) + out.square().sum()
        return list(torch.autograd.grad(loss, leaves))

    for have, want in zip(penalty("triton", torch.float32), penalty("reference", torch.float64), strict=True):
        assert_close(have, want, terms=2 * 4 * 5, steps=3 * STEPS)
