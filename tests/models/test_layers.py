"""The layers against torch.nn."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastgan.models.layers import InstanceNorm, conv, upsample_nearest


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 7), (2, 4, 1, 6), (1, 8, 4, 1), (3, 1, 2, 2)])
def test_upsample_is_nearest(shape: tuple[int, ...], channels_last: bool, rng: torch.Generator) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(shape, generator=rng).contiguous(memory_format=layout).requires_grad_()
    want = F.interpolate(x, scale_factor=2, mode="nearest")
    have = upsample_nearest(x)
    assert torch.equal(have, want)
    assert have.is_contiguous(memory_format=layout) or shape[2:] == (1, 1)  # four times one pixel needs no copy
    cotangent = torch.randn(want.shape, generator=rng)
    (wanted,) = torch.autograd.grad(want, x, cotangent)
    (got,) = torch.autograd.grad(have, x, cotangent)
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu"])
def test_instance_norm_is_torchs(affine: bool, activation: str | None, rng: torch.Generator) -> None:
    layer = InstanceNorm(5, activation, affine=affine)
    oracle = nn.InstanceNorm2d(5, affine=affine)
    if affine:
        for name in ("weight", "bias"):
            value = torch.randn(5, generator=rng)
            getattr(layer, name).data = value.clone()
            getattr(oracle, name).data = value.clone()
    after = {None: nn.Identity(), "relu": nn.ReLU(), "leaky_relu": nn.LeakyReLU(0.2)}[activation]
    x = torch.randn(3, 5, 6, 7, generator=rng) * 3 + 1
    residual = torch.randn(3, 5, 6, 7, generator=rng)
    torch.testing.assert_close(layer(x), after(oracle(x)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer(x, residual=residual), after(oracle(x)) + residual, rtol=1e-4, atol=1e-5)
    assert (len(list(layer.parameters())) == 2) is affine


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu"])
def test_frozen_moments_of_the_same_picture_change_nothing(
    affine: bool, activation: str | None, rng: torch.Generator
) -> None:
    layer = InstanceNorm(5, activation, affine=affine)
    if affine:
        layer.weight.data = torch.randn(5, generator=rng)
        layer.bias.data = torch.randn(5, generator=rng)
    x = torch.randn(2, 5, 6, 7, generator=rng) * 3 + 1
    residual = torch.randn(2, 5, 6, 7, generator=rng)
    want = layer(x, residual)
    layer.recording = True
    torch.testing.assert_close(layer(x, residual), want)
    layer.recording = False
    torch.testing.assert_close(layer(x, residual), want, rtol=1e-4, atol=1e-5)
    other = layer(x * 2)  # and on another picture they stay what they were
    layer.frozen = None
    assert not torch.allclose(other, layer(x * 2), atol=1e-2)


@pytest.mark.parametrize("kernel", [3, 5, 9])
@pytest.mark.parametrize("stride", [1, 2])
def test_conv_keeps_the_size_and_pads_by_reflection(kernel: int, stride: int, rng: torch.Generator) -> None:
    layer = conv(3, 4, kernel, stride=stride)
    assert layer.bias is None and conv(3, 4, 3, bias=True).bias is not None
    x = torch.randn(2, 3, 12, 16, generator=rng)
    side = kernel // 2
    want = F.conv2d(F.pad(x, (side,) * 4, mode="reflect"), layer.weight, stride=stride)
    have = layer(x)
    assert have.shape[-2:] == (12 // stride, 16 // stride)
    torch.testing.assert_close(have, want)
