"""Convolutions in the transform domain beside torch's own in float64: values, gradients, borders, levels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.bounds import assert_close, rounding, unit
from helpers.machine import needs
from torch import Tensor, nn

from fastgan import ops
from fastgan.ops import _native

#: The sum of squares of what the transform domain adds up for an output, beside that of the output itself, for normal
#: inputs and weights: a dimension of F(2, 3) adds three products of variance 2, 1.5 and 1.5 for three of 1, and the
#: others, and gradients, have no more on average.
GROWTH = (5 / 3) ** 2

DTYPES = [
    pytest.param(dtype, id=name, marks=needs(f"native convolutions in {name}"))
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
]
native = needs("native convolutions in float32")


@dataclass(frozen=True)
class Case:
    shape: tuple[int, int, int, int]
    outputs: int
    kernel: int = 3
    stride: int = 1
    padding: str = "zeros"
    upsample: bool = False
    activation: str | None = None

    def __str__(self) -> str:
        parts = ["x".join(map(str, self.shape)), self.outputs, f"k{self.kernel}", f"s{self.stride}", self.padding]
        return "-".join(map(str, [*parts, *(["up"] * self.upsample), *([self.activation] * bool(self.activation))]))

    def tensors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(3)
        x = torch.randn(self.shape, generator=generator).to(dtype)
        weight = torch.randn(self.outputs, self.shape[1], self.kernel, self.kernel, generator=generator)
        return x, weight / (self.shape[1] * self.kernel**2) ** 0.5, torch.randn(self.outputs, generator=generator)

    def run(self, x: Tensor, weight: Tensor, bias: Tensor | None, backend: str | None = "native") -> Tensor:
        return ops.conv2d(
            x,
            weight,
            bias,
            stride=self.stride,
            padding=self.padding,
            upsample=self.upsample,
            activation=self.activation,
            backend=backend,
        )


CASES = [
    Case((1, 16, 1, 1), 16),
    Case((2, 32, 9, 7), 48),
    Case((1, 64, 34, 50), 80, activation="relu"),
    Case((2, 16, 2, 2), 16, padding="reflect"),
    Case((1, 32, 10, 6), 64, padding="reflect", activation="leaky_relu"),
    Case((2, 32, 7, 9), 16, padding="reflect"),
    Case((1, 16, 1, 3), 32, upsample=True),
    Case((2, 48, 11, 8), 32, upsample=True, padding="reflect"),
    Case((1, 32, 6, 7), 112, upsample=True, activation="relu"),
    Case((1, 16, 2, 3), 16, kernel=4),
    Case((2, 48, 13, 10), 32, kernel=4, activation="leaky_relu"),
    Case((1, 16, 2, 2), 32, kernel=4, stride=2),
    Case((2, 32, 13, 10), 48, kernel=4, stride=2),
    Case((1, 16, 31, 33), 16, kernel=4, stride=2, activation="relu"),
    Case((2, 16, 5, 6), 3, kernel=9, padding="reflect"),
    Case((1, 48, 19, 131), 3, kernel=5),
    Case((2, 32, 4, 3), 3, kernel=1),
    Case((2, 3, 13, 20), 64, activation="relu"),
    Case((1, 3, 9, 40), 48, kernel=9, padding="reflect"),
    Case((1, 3, 1, 1), 16, activation="leaky_relu"),
]


def rms(have: Tensor, want: Tensor) -> float:
    return (have.double() - want).square().mean().sqrt().item()


def check(case: Case, dtype: torch.dtype, layout: Callable[[Tensor], Tensor]) -> None:
    x, weight, bias = case.tensors(dtype)
    x = layout(x)
    leaves = [tensor.detach().requires_grad_() for tensor in (x, weight, bias)]
    out = case.run(*leaves)
    generator = torch.Generator().manual_seed(4)
    cotangent = layout(torch.randn(out.shape, generator=generator).to(dtype))
    have = [out, *torch.autograd.grad(out, leaves, cotangent)]

    # Which outputs are cut off is taken from what was computed: near 0 it is a matter of rounding.
    slope = {"relu": 0.0, "leaky_relu": 0.2, None: 1.0}[case.activation]
    pulled = torch.where(out > 0, cotangent, cotangent * slope).detach()
    bare = Case(case.shape, case.outputs, case.kernel, case.stride, case.padding, case.upsample)
    inputs = [tensor.detach().double().requires_grad_() for tensor in leaves]
    value = case.run(*inputs, backend="reference")
    gradients = torch.autograd.grad(bare.run(*inputs, backend="reference"), inputs, pulled.double())
    assert out.dtype == dtype and out.shape == value.shape
    for name, made, exact in zip(("value", "x", "weight", "bias"), have, [value, *gradients], strict=True):
        scale = exact.square().mean().sqrt().item()
        # Both factors of a product are transformed by sums, added up in float32 over `terms`, and transformed back; in
        # half precision each factor is rounded, and the result, in a random direction each.
        terms = {"value": weight[0].numel(), "x": weight[:, 0].numel()}.get(name, out[:, 0].numel())
        share = GROWTH**0.5 * rounding(terms, 4)
        if dtype == torch.bfloat16:
            share += (1 + 2 * GROWTH) ** 0.5 * unit(dtype)
        assert rms(made, exact) <= share * scale, f"{name}: {rms(made, exact):.3g}, allowed {share:.3g} of {scale:.3g}"


@needs("the extension")
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_values_and_gradients(case: Case, dtype: torch.dtype, level: str) -> None:
    if not _native.extension().conv2d_serves(_native.dtype_code(dtype)):
        with pytest.raises(ValueError, match="convolutions for this processor"):
            case.run(*case.tensors(dtype))
        assert case.run(*case.tensors(dtype), backend=None).shape[1] == case.outputs
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        check(case, dtype, lambda x: x.contiguous(memory_format=torch.channels_last))
    finally:
        torch.set_num_threads(threads)


@native
@pytest.mark.parametrize("case", [CASES[1], CASES[8], CASES[12], CASES[14]], ids=str)
def test_layouts(case: Case, layout: Callable[[Tensor], Tensor]) -> None:
    check(case, torch.float32, layout)


@native
def test_equals_the_layers_of_torch() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 32, 12, 20)
    plain = nn.Conv2d(32, 64, 3, padding=1, padding_mode="reflect")
    sums = {"terms": 32 * 9, "steps": 5}  # four of ours, one of torch's
    made = ops.conv2d(x, plain.weight, plain.bias, padding="reflect", activation="relu", backend="native")
    assert_close(made, F.relu(plain(x)), **sums)
    behind = nn.Sequential(nn.Upsample(scale_factor=2), plain)
    enlarged = ops.conv2d(x, plain.weight, plain.bias, padding="reflect", upsample=True, backend="native")
    assert_close(enlarged, behind(x), **sums)
    strided = nn.Conv2d(32, 48, 4, 2, 1)
    made = ops.conv2d(x, strided.weight, strided.bias, stride=2, backend="native")
    assert_close(made, strided(x), terms=32 * 16, steps=5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_each_time(dtype: torch.dtype) -> None:
    for case in (CASES[2], CASES[8], CASES[13], CASES[15]):
        runs = []
        for _ in range(2):
            leaves = [tensor.requires_grad_() for tensor in case.tensors(dtype)]
            out = case.run(*leaves, backend=None)
            runs.append([out, *torch.autograd.grad(out.float().square().sum(), leaves)])
        assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@native
def test_a_value_that_is_not_finite_stays_so() -> None:
    x, weight, bias = CASES[1].tensors(torch.float32)
    x[0, 0, 4, 4] = torch.nan
    for activation in ("relu", "leaky_relu"):
        out = ops.conv2d(x, weight, bias, activation=activation, backend="native")
        assert out[0, :, 4, 4].isnan().all() and out[1].isfinite().all()


@native
def test_a_frozen_weight_keeps_no_input() -> None:
    x, weight, bias = CASES[1].tensors(torch.float32)
    x.requires_grad_()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        ops.conv2d(x, weight, bias, backend="native")
    assert not any(tensor.shape == x.shape for tensor in kept)


@native
def test_registered_op() -> None:
    for case in (CASES[1], CASES[4], CASES[7], CASES[12], CASES[14]):
        x, weight, bias = (tensor.requires_grad_() for tensor in case.tensors(torch.float32))
        x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        options = case.stride, case.padding, case.upsample, case.activation, 0.2
        torch.library.opcheck(torch.ops.fastgan.conv2d.default, (x, weight, bias, *options))


@native
def test_a_second_derivative_raises_and_second_order_has_it() -> None:
    x, weight, _ = CASES[1].tensors(torch.float32)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(ops.conv2d(x, weight, activation="relu").square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="first-order gradients alone"):
        gradient.sum().backward()
    with ops.second_order():
        out = ops.conv2d(x, weight, activation="relu").square().sum()
    (gradient,) = torch.autograd.grad(out, x, create_graph=True)
    gradient.sum().backward()
    assert x.grad is not None


@native
@needs("a compiler for torch.compile")
@pytest.mark.filterwarnings("ignore")
def test_compiles_without_a_break() -> None:
    compiled = torch.compile(
        lambda x, w, b: ops.conv2d(x, w, b, padding="reflect", upsample=True, activation="relu"), fullgraph=True
    )
    for height in (6, 9, 10):
        x, weight, bias = (tensor.requires_grad_() for tensor in Case((2, 16, height, 8), 32).tensors(torch.float32))
        ours = compiled(x, weight, bias)
        eager = ops.conv2d(x, weight, bias, padding="reflect", upsample=True, activation="relu")
        # Two results of four steps each, then their pull-backs: sums over 4 * height * 8 * 2 pixels or 32 * 9 products.
        assert_close(ours, eager, terms=16 * 9, steps=8)
        grads = (torch.autograd.grad(result.square().sum(), (x, weight, bias)) for result in (ours, eager))
        for have, want in zip(*grads, strict=True):
            assert_close(have, want, terms=max(32 * 9, 64 * height), steps=16)


def test_levels_that_have_convolutions(level: str) -> None:
    """The levels that needs("native convolutions in ...") reads from the extension."""
    serves = _native.extension().conv2d_serves
    assert serves(_native.dtype_code(torch.float32)) == (level != "baseline")
    assert serves(_native.dtype_code(torch.bfloat16)) == (level == "avx512_bf16")


def test_under_autocast_the_result_has_its_dtype() -> None:
    x, weight, bias = CASES[1].tensors(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert ops.conv2d(x, weight, bias).dtype == torch.bfloat16
        assert ops.conv2d(x, weight, bias, backend="reference").dtype == torch.bfloat16
        assert ops.conv2d(x.double(), weight, bias).dtype == torch.float64
        wide = weight.double(), bias.double()
        assert ops.conv2d(x, *wide, backend="reference").dtype == torch.bfloat16


def test_the_reference_casts_a_weight_once_under_autocast() -> None:
    x, weight, bias = (tensor.requires_grad_() for tensor in CASES[1].tensors(torch.float32))
    cast = weight.bfloat16(), bias.bfloat16()
    want = torch.autograd.grad(2 * ops.conv2d(x.bfloat16(), *cast, backend="reference").float().sum(), (weight, bias))
    with (
        torch.autocast("cpu", torch.bfloat16),
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler,
    ):
        outs = [ops.conv2d(x.detach().bfloat16(), weight, bias, backend="reference") for _ in range(2)]
    casts = [event for event in profiler.events() if event.name == "aten::_to_copy"]
    assert len(casts) == 2 + 2  # of x each time; of weight and bias
    have = torch.autograd.grad(sum(out.float().sum() for out in outs), (weight, bias))
    for mine, theirs in zip(have, want, strict=True):
        # Of sums in float32, rounded once each way: a gradient that is missing would be half of it.
        assert_close(mine, theirs, steps=2, dtype=torch.bfloat16)


def test_other_convolutions_go_by_the_reference() -> None:
    x = torch.randn(2, 5, 9, 12)
    for weight, stride in ((torch.randn(7, 5, 3, 3), 1), (torch.randn(16, 5, 5, 5), 3), (torch.randn(3, 5, 1, 1), 2)):
        around = (weight.shape[2] - 1) // 2
        have, want = ops.conv2d(x, weight, stride=stride), F.conv2d(x, weight, None, stride, around)
        assert_close(have, want, terms=weight[0].numel(), steps=2)


X, W = torch.zeros(1, 16, 6, 6), torch.zeros(16, 16, 3, 3)
WRONG: list[tuple[type[Exception], str, tuple[Any, ...], dict[str, Any]]] = [
    (TypeError, "x must be a floating-point tensor", (X.int(), W), {}),
    (ValueError, "x must be a non-empty", (X[0], W), {}),
    (ValueError, r"weight must be \(K, 16, k, k\)", (X, W[:, :3]), {}),
    (ValueError, r"weight must be", (X, W[..., :2]), {}),
    (ValueError, r"bias must be \(16,\)", (X, W, torch.zeros(3)), {}),
    (ValueError, "stride must be a whole number", (X, W), {"stride": 0}),
    (ValueError, "padding must be one of 'zeros', 'reflect'", (X, W), {"padding": "same"}),
    (ValueError, "activation must be one of", (X, W), {"activation": "tanh"}),
    (ValueError, "negative_slope must be", (X, W), {"negative_slope": -1.0}),
    (ValueError, "too small", (X[..., :1], W), {"padding": "reflect"}),
    (ValueError, "too small", (X[..., :1], torch.zeros(16, 16, 4, 4)), {}),
]


@pytest.mark.parametrize(("error", "message", "tensors", "options"), WRONG)
def test_bad_input(error: type[Exception], message: str, tensors: tuple[Any, ...], options: dict[str, Any]) -> None:
    with pytest.raises(error, match=message):
        ops.conv2d(*tensors, **options)


@needs("the extension")
@pytest.mark.parametrize(
    ("message", "weight", "options"),
    [
        ("multiples of 16 channels, of which one side may be 3, not 16 to 7", (7, 16, 3, 3), {}),
        ("has no 5x5", (16, 16, 5, 5), {}),
        ("has no 3x3 .* stride=2", (16, 16, 3, 3), {"stride": 2}),
        ("has no 4x4 .* padding='reflect'", (16, 16, 4, 4), {"padding": "reflect"}),
        ("has no 9x9 .* activation='relu'", (3, 16, 9, 9), {"activation": "relu"}),
    ],
)
def test_native_says_what_it_has_not(message: str, weight: tuple[int, ...], options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=message):
        ops.conv2d(torch.zeros(1, 16, 12, 12), torch.zeros(weight), **options, backend="native")


@native
def test_direct_calls_cannot_reach_beyond_memory() -> None:
    call, back = torch.ops.fastgan.conv2d.default, torch.ops.fastgan.conv2d_backward.default
    x = X.contiguous(memory_format=torch.channels_last)
    plain = (1, "zeros", False, None, 0.2)
    for tensors in ((X[:, :3], W, None), (x, W.double(), None), (x, W, torch.zeros(3)), (x.double(), W, None)):
        with pytest.raises((ValueError, TypeError)):
            call(*tensors, *plain)
    for grad, given, size in ((x[:, :, :3], x, [1, 6, 6]), (x, x[:, :, :4], [1, 6, 6]), (x, None, [1, 6, 6])):
        with pytest.raises(ValueError, match=r"must be|is needed"):
            back(grad, given, None, W, size, *plain, True, True, False)
