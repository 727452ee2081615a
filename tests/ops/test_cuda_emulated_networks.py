"""The CUDA kernels of gram, instance_norm and bias_act, run by the emulator, against references in float64."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.bounds import approx, assert_close, rounding, unit
from helpers.cuda_emulator.library import CTensor, Emulated
from torch import Tensor

from fastgan import ops

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ACTIVATIONS = (None, "relu", "leaky_relu", "tanh")

# In packs: NCHW, channels_last, a part of its channels. Element by element: a part of the columns, transposed planes.
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "nchw": lambda x: x.contiguous(),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "rows": lambda x: F.pad(x, (1, 2, 0, 0))[..., 1:-2],
    "channels": lambda x: F.pad(x.contiguous(memory_format=torch.channels_last), (0, 0, 0, 0, 0, 8))[:, :-8],
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
}


def nan(tensor: Tensor) -> Tensor:
    return torch.full_like(tensor, torch.nan)


def assert_within(have: Tensor, want: Tensor, tolerance: float) -> None:
    """Within the tolerance of the largest value, and half a unit of the dtype's last place."""
    want = want.detach().double()
    last_place = want.abs().clamp(min=torch.finfo(have.dtype).smallest_normal) * unit(have.dtype)
    error = (have.double() - want).abs() - last_place
    assert error.max() <= tolerance * want.abs().max().clamp(min=1e-30), error.max()


def check_gram(emulated: Emulated, x: Tensor) -> None:
    n, c = x.shape[:2]
    tolerance = rounding(max(c, x[0, 0].numel()), 2)
    shape, scale = tuple(x.shape), 1 / x[0].numel()
    wide = x.double().requires_grad_()
    expected = ops.gram(wide, backend="reference")
    out = torch.full((n, c, c), torch.nan)
    emulated.call("gram_forward", CTensor.of(x), shape, scale, out)
    assert_within(out, expected, tolerance)
    assert torch.equal(out, out.mT)

    matrix = torch.randn(n, c, c, generator=torch.Generator().manual_seed(1))
    grad_x = nan(x)
    emulated.call("gram_backward", CTensor.of(x), shape, matrix, CTensor.of(grad_x))
    assert_within(grad_x, (matrix.double() @ wide.flatten(2)).view_as(x), tolerance)


def check_style_loss(
    emulated: Emulated, x: Tensor, target: Tensor, windows: tuple[int, int] = (1, 1), weight: float = 0.3
) -> None:
    n, c = x.shape[:2]
    shape = tuple(x.shape)
    wide = x.double().requires_grad_()
    options: dict[str, Any] = {"windows": windows, "window_weight": weight, "reduction": "none", "return_whole": True}
    expected, expected_whole = ops.gram_style_loss(wide, target.double(), **options, backend="reference")
    grad_out = torch.linspace(-1, 2, n)
    difference = torch.full((n, *windows, c * (c + 1) // 2), torch.nan)
    loss, whole, grad_x = torch.full((n,), torch.nan), torch.full((n,), torch.nan), nan(x)
    stride = 0 if target.ndim == 2 else c * c
    forward = (target, stride, *windows, weight, difference, loss, whole)
    emulated.call("gram_style_loss_forward", CTensor.of(x), shape, *forward)
    backward = (*windows, difference, grad_out, CTensor.of(grad_x))
    emulated.call("gram_style_loss_backward", CTensor.of(x), shape, *backward)
    pixels = x[0, 0].numel()
    assert_within(loss, expected, rounding(max(pixels, c * c), 7))
    assert_within(whole, expected_whole, rounding(max(pixels, c * c), 5))
    if windows == (1, 1):
        row, column = torch.tril_indices(c, c)
        want = ops.gram(wide) - (target + target.mT) / 2
        assert_within(difference[:, 0, 0], want[:, row, column], rounding(pixels, 3))
    assert_within(grad_x, torch.autograd.grad(expected, wide, grad_out.double())[0], rounding(max(pixels, c), 8))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout_name", LAYOUTS)
def test_gram_layouts(emulated: Emulated, dtype: torch.dtype, layout_name: str, rng: torch.Generator) -> None:
    check_gram(emulated, LAYOUTS[layout_name](torch.randn(2, 16, 4, 18, generator=rng).to(dtype)))


# One element; nothing in packs; two and three tiles of channels; several splits of pixels.
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 7), (1, 72, 8, 9), (1, 136, 4, 4), (2, 8, 24, 56)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout_name", ["nchw", "channels_last"])
def test_gram_sizes(
    emulated: Emulated, shape: tuple[int, ...], dtype: torch.dtype, layout_name: str, rng: torch.Generator
) -> None:
    check_gram(emulated, LAYOUTS[layout_name](torch.randn(shape, generator=rng).to(dtype) + 0.5))


@pytest.mark.parametrize("shape", [(3, 5, 6, 7), (2, 72, 4, 8)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("per_image", [False, True])
def test_style_loss(
    emulated: Emulated, shape: tuple[int, ...], dtype: torch.dtype, per_image: bool, rng: torch.Generator
) -> None:
    n, c = shape[:2]
    x = torch.randn(shape, generator=rng).to(dtype)
    # Not symmetric: both triangles of the difference count.
    target = torch.randn((n, c, c) if per_image else (c, c), generator=rng)
    check_style_loss(emulated, x, target)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout_name", LAYOUTS)
def test_windows_layouts(emulated: Emulated, dtype: torch.dtype, layout_name: str, rng: torch.Generator) -> None:
    x = LAYOUTS[layout_name](torch.randn(2, 16, 6, 24, generator=rng).to(dtype))
    check_style_loss(emulated, x, torch.randn(2, 16, 16, generator=rng), (2, 2))


# In packs: rows of four, of two steps and more, several splits of pixels, several tiles of channels. Not in packs: rows
# that begin between them, windows that differ in size, of one pixel.
@pytest.mark.parametrize(
    ("shape", "windows"),
    [
        ((1, 72, 6, 8), (2, 2)),
        ((1, 8, 5, 80), (1, 1)),
        ((1, 8, 5, 80), (2, 1)),
        ((1, 8, 48, 56), (1, 2)),
        ((1, 136, 4, 8), (4, 1)),
        ((2, 8, 7, 18), (3, 2)),
        ((1, 3, 4, 5), (4, 5)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout_name", ["nchw", "channels_last"])
def test_windows_sizes(
    emulated: Emulated,
    shape: tuple[int, ...],
    windows: tuple[int, int],
    dtype: torch.dtype,
    layout_name: str,
    rng: torch.Generator,
) -> None:
    x = LAYOUTS[layout_name](torch.randn(shape, generator=rng).to(dtype) + 0.5)
    check_style_loss(emulated, x, torch.randn(shape[1], shape[1], generator=rng), windows)


def check_instance_norm(
    emulated: Emulated,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    activation: str | None,
    grad_out: Tensor,
    mean_of_x: float = 0.0,
) -> None:
    n, c = x.shape[:2]
    # A mean is known to its rounding.
    tolerance = rounding(x[0, 0].numel(), 4) + rounding() * mean_of_x
    shape = tuple(x.shape)
    code, slope, eps = ACTIVATIONS.index(activation), 0.1, 1e-5
    strides = [0 if p is None or p.ndim == 1 else c for p in (weight, bias)]
    options = (weight, strides[0], bias, strides[1], code, slope, eps)
    wide = x.double().requires_grad_()
    ones, zeros = torch.ones(c), torch.zeros(c)
    wide_weight, wide_bias = (
        p.double().expand(n, c).clone().requires_grad_()
        for p in (ones if weight is None else weight, zeros if bias is None else bias)
    )
    expected = ops.instance_norm(
        wide,
        wide_weight,
        wide_bias,
        None if residual is None else residual.double(),
        activation=activation,
        negative_slope=slope,
        eps=eps,
        backend="reference",
    )
    gradients = torch.autograd.grad(expected, (wide, wide_weight, wide_bias), grad_out.double())

    out, mean, rstd = nan(x), torch.full((n, c), torch.nan), torch.full((n, c), torch.nan)
    emulated.call(
        "instance_norm_forward", CTensor.of(x), shape, *options, CTensor.of(residual), CTensor.of(out), mean, rstd
    )
    assert_within(out, expected, tolerance)
    variance, center = torch.var_mean(x.double(), (2, 3), correction=0)
    assert_within(mean, center, tolerance)
    assert_within(rstd, (variance + eps).rsqrt(), tolerance)

    grad_x, grad_weight, grad_bias = nan(x), nan(mean), nan(mean)
    arguments = (CTensor.of(x), shape, *options, mean, rstd, CTensor.of(grad_out))
    emulated.call("instance_norm_backward", *arguments, CTensor.of(grad_x), grad_weight, grad_bias)
    for have, want in zip((grad_x, grad_weight, grad_bias), gradients, strict=True):
        assert_within(have, want, 2 * tolerance)
    only_x, only_bias = nan(x), nan(mean)
    emulated.call("instance_norm_backward", *arguments, CTensor.of(only_x), None, None)
    emulated.call("instance_norm_backward", *arguments, CTensor(), None, only_bias)
    assert torch.equal(only_x, grad_x)
    assert torch.equal(only_bias, grad_bias)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout_name", LAYOUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_instance_norm_layouts(
    emulated: Emulated, dtype: torch.dtype, layout_name: str, activation: str | None, rng: torch.Generator
) -> None:
    to = LAYOUTS[layout_name]
    x, residual, grad_out = (to(t.to(dtype)) for t in torch.randn(3, 2, 8, 4, 18, generator=rng))
    weight, bias = torch.randn(2, 2, 8, generator=rng)
    check_instance_norm(emulated, x, weight, bias, residual, activation, grad_out)


# Planes of a warp, of 128 threads (NCHW), in strips (not in packs; over 16,384 pixels), several tiles of channels.
@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (3, 5, 2, 4), (1, 2, 24, 44), (1, 1, 130, 128), (1, 140, 3, 4)])
@pytest.mark.parametrize("layout_name", ["nchw", "channels_last"])
@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_instance_norm_sizes_and_means(
    emulated: Emulated, shape: tuple[int, ...], layout_name: str, mean: float, rng: torch.Generator
) -> None:
    x = LAYOUTS[layout_name](torch.randn(shape, generator=rng) + mean)
    weight = torch.randn(shape[1], generator=rng)
    grad_out = LAYOUTS[layout_name](torch.randn(shape, generator=rng))
    check_instance_norm(emulated, x, weight, None, None, None, grad_out, mean)


def test_instance_norm_mixed_layouts(emulated: Emulated, rng: torch.Generator) -> None:
    x, residual = torch.randn(2, 2, 8, 6, 8, generator=rng)
    x = LAYOUTS["channels_last"](x)
    grad_out = torch.randn(2, 8, 1, 1, generator=rng).expand_as(x)
    check_instance_norm(emulated, x, None, torch.randn(8, generator=rng), residual, "relu", grad_out)
    check_instance_norm(emulated, residual, None, None, x, "tanh", torch.ones(()).expand_as(x))


def test_instance_norm_of_one_pixel_gives_the_bias(emulated: Emulated, rng: torch.Generator) -> None:
    x, bias = torch.randn(3, 2, 1, 1, generator=rng), torch.tensor([1.0, -2.0])
    out, moments = nan(x), torch.full((2, 3, 2), torch.nan)
    options = (None, 0, bias, 0, 0, 0.0, 1e-5)
    emulated.call(
        "instance_norm_forward", CTensor.of(x), tuple(x.shape), *options, CTensor(), CTensor.of(out), *moments
    )
    assert torch.equal(out, bias.view(1, 2, 1, 1).expand_as(out))


def bias_act(x: Tensor, bias: Tensor, activation: str | None, slope: float, gain: float, clamp: float) -> Tensor:
    z = x + bias.view(1, -1, 1, 1)
    if activation == "relu":
        z = z.relu()
    elif activation == "leaky_relu":
        z = F.leaky_relu(z, slope)
    elif activation == "tanh":
        z = z.tanh()
    return z * gain if clamp < 0 else (z * gain).clamp(-clamp, clamp)


def check_bias_act(
    emulated: Emulated, x: Tensor, grad_out: Tensor, bias: Tensor | None, activation: str | None, clamp: float
) -> None:
    shape, slope, gain = tuple(x.shape), 0.2, 1.5
    options = (bias, ACTIVATIONS.index(activation), slope, gain, clamp)
    wide = x.double().requires_grad_()
    shift = (torch.zeros(shape[1]) if bias is None else bias).double().requires_grad_()
    expected = bias_act(wide, shift, activation, slope, gain, clamp)
    gradients = torch.autograd.grad(expected, (wide, shift), grad_out.double())
    out, grad_x, grad_bias = nan(x), nan(x), torch.full((shape[1],), torch.nan)
    emulated.call("bias_act_forward", CTensor.of(x), shape, *options, CTensor.of(out))
    assert_within(out, expected, rounding(steps=4))
    arguments = (CTensor.of(x), shape, *options, CTensor.of(grad_out))
    emulated.call("bias_act_backward", *arguments, CTensor.of(grad_x), grad_bias)
    for have, want, terms in zip((grad_x, grad_bias), gradients, (1, x[:, 0].numel()), strict=True):
        assert_within(have, want, rounding(terms, 4))
    only_x, only_bias = nan(x), nan(grad_bias)
    emulated.call("bias_act_backward", *arguments, CTensor.of(only_x), None)
    emulated.call("bias_act_backward", *arguments, CTensor(), only_bias)
    assert torch.equal(only_x, grad_x)
    assert torch.equal(only_bias, grad_bias)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout_name", LAYOUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_bias_act_layouts(
    emulated: Emulated, dtype: torch.dtype, layout_name: str, activation: str | None, rng: torch.Generator
) -> None:
    x, grad_out = (LAYOUTS[layout_name](t.to(dtype)) for t in torch.randn(2, 2, 8, 4, 18, generator=rng))
    check_bias_act(emulated, x, grad_out, torch.randn(8, generator=rng), activation, 0.7)


@pytest.mark.parametrize("shape", [(3, 5, 1, 1), (1, 3, 37, 41), (2, 2, 64, 72), (1, 140, 3, 4)])
@pytest.mark.parametrize("layout_name", ["nchw", "channels_last"])
def test_bias_act_sizes(emulated: Emulated, shape: tuple[int, ...], layout_name: str, rng: torch.Generator) -> None:
    x = LAYOUTS[layout_name](torch.randn(shape, generator=rng))
    check_bias_act(emulated, x, torch.randn(shape[1:], generator=rng).expand(shape), None, "leaky_relu", -1.0)


def test_bias_act_is_flat_at_zero_and_keeps_nan(emulated: Emulated) -> None:
    x = torch.tensor([0.0, torch.nan, torch.inf, -torch.inf]).view(1, 1, 2, 2)
    for code, name in enumerate(ACTIVATIONS[:3]):
        out, grad_x = nan(x), nan(x)
        options = (None, code, 0.2, 1.0, -1.0)
        emulated.call("bias_act_forward", CTensor.of(x), tuple(x.shape), *options, CTensor.of(out))
        wide = x.double()
        assert_close(out, bias_act(wide, torch.zeros(1), name, 0.2, 1.0, -1.0), steps=4, scale=1.0)
        ones = torch.ones_like(x)
        arguments = (CTensor.of(x), tuple(x.shape), *options, CTensor.of(ones), CTensor.of(grad_x))
        emulated.call("bias_act_backward", *arguments, None)
        assert grad_x[0, 0, 0, 0].item() == approx([1.0, 0.0, 0.2][code], steps=2)
