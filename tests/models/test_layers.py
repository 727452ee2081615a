"""The layers against torch.nn."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.bounds import assert_close, rounding, unit
from torch import nn
from torch.overrides import TorchFunctionMode

from fastgan.models.layers import (
    EPS,
    InstanceNorm,
    MomentRecorder,
    conv,
    copy_modules,
    pad_to_multiple,
    spectral_norm,
)
from fastgan.ops.conv2d.reference import upsample_nearest


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
    (expected,) = torch.autograd.grad(want, x, cotangent)
    (got,) = torch.autograd.grad(have, x, cotangent)
    assert_close(got, expected, terms=4, steps=2)


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
    bound = {"terms": 6 * 7, "steps": 4}  # the moments and what is done by them, twice
    assert_close(layer(x), after(oracle(x)), **bound)
    assert_close(layer(x, residual=residual), after(oracle(x)) + residual, **bound)
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
    bound = {"terms": 6 * 7, "steps": 4}  # the moments and what is done by them, twice
    want = layer(x, residual)
    layer.recording = True
    assert torch.equal(layer(x, residual), want)
    layer.recording = False
    assert_close(layer(x, residual), want, **bound)
    other = layer(x * 2)  # and on another picture they stay what they were
    layer.frozen = None
    assert (other - layer(x * 2)).abs().max() > rounding(**bound) * other.abs().max()


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
    assert_close(have, want, terms=3 * kernel**2, steps=2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_recorded_moments(dtype: torch.dtype, rng: torch.Generator) -> None:
    holder = MomentRecorder()
    assert holder.frozen is None and not holder.recording and isinstance(InstanceNorm(2), MomentRecorder)
    x = (torch.randn(2, 3, 8, 9, generator=rng).double() * 2 + 30).to(dtype)
    holder.record(x)
    assert holder.frozen is not None
    mean, scale = holder.frozen
    assert mean.shape == scale.shape == (2, 3, 1, 1)
    assert mean.dtype == scale.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    exact = x.double()
    variance, average = torch.var_mean(exact, (2, 3), correction=0)
    assert_close(mean[..., 0, 0], average, terms=8 * 9, dtype=mean.dtype)
    want = (variance + EPS).rsqrt()
    # Differences from the mean are off by what rounding leaves in values of its size: a share of the deviation.
    share = (average * want).max() * want.max()
    assert_close(scale[..., 0, 0], want, terms=8 * 9, dtype=scale.dtype, scale=share.item())


@pytest.mark.parametrize(
    ("size", "mode"), [((5, 8), "reflect"), ((4, 6), "reflect"), ((2, 7), "replicate"), ((7, 1), "replicate")]
)
def test_padding_to_a_multiple(size: tuple[int, int], mode: str, rng: torch.Generator) -> None:
    x = torch.randn(1, 2, *size, generator=rng)
    want = F.pad(x, (0, -size[1] % 4, 0, -size[0] % 4), mode=mode)
    assert torch.equal(pad_to_multiple(x, 4), want) and want.shape[-1] % 4 == want.shape[-2] % 4 == 0


def spectral_network() -> nn.Sequential:
    torch.manual_seed(1)
    made = nn.Sequential(
        nn.Conv2d(3, 8, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 6, 3, padding=1), nn.Flatten(), nn.Linear(6 * 16, 5)
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(7)
    return made


def singular_values(network: nn.Module) -> torch.Tensor:
    """The two largest of each weight as the forward uses it, as a matrix of output channels by the rest."""
    found = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            weight = module.weight.detach().double()
            weight = weight.transpose(0, 1) if isinstance(module, nn.ConvTranspose2d) else weight
            found.append(torch.linalg.svdvals(weight.flatten(1))[:2])
    return torch.stack(found)


def assert_spectral_norm_is_one(network: nn.Module, forwards: int) -> None:
    """After ``forwards``, one power iteration each, of weights at rest.

    An iteration multiplies by the weight twice, and the norm's error is the square of the vectors': (second / first)^4
    each time. Then all that is left is the rounding of sums of 96 terms.
    """
    first, second = singular_values(network).T
    assert ((second / first) ** (4 * forwards) < unit(torch.float32)).all(), "too few forwards for these weights"
    assert_close(first, torch.ones(3), terms=96, steps=2, dtype=torch.float32)


@pytest.mark.parametrize("autocast", [False, True])
def test_spectral_norm_is_one(autocast: bool, rng: torch.Generator) -> None:
    network = spectral_network()
    plain = [module.weight.detach().clone() for module in network if hasattr(module, "weight")]
    assert singular_values(network)[:, 0].min() > 3
    spectral_norm(network)
    x = torch.randn(2, 3, 8, 8, generator=rng)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        for _ in range(200):
            out = network(x)
        out.float().square().mean().backward()
        used = [module.weight for module in network if hasattr(module, "weight")]
    assert len(used) == 3 and all(weight.dtype == torch.float32 for weight in used)
    assert_spectral_norm_is_one(network.eval(), 200)
    for have, was in zip(used, plain, strict=True):
        assert_close(have / have.norm(), was / was.norm(), terms=was.numel(), steps=3)  # only the size has changed
    parameters = dict(network.named_parameters())
    assert len(parameters) == 6
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in parameters.values())


@pytest.mark.parametrize("autocast", [False, True])
def test_spectral_norm_follows_a_weight_that_moves(autocast: bool, rng: torch.Generator) -> None:
    """The power iteration runs in the forwards, in float32."""
    network = spectral_network()
    spectral_norm(network)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("original"):
                parameter.copy_(torch.randn(parameter.shape, generator=rng))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        for _ in range(500):
            network(torch.randn(2, 3, 8, 8, generator=rng))
        network.eval()(torch.randn(1, 3, 8, 8, generator=rng))
        assert_spectral_norm_is_one(network, 500)


def test_spectral_norm_iterates_outside_autocast(rng: torch.Generator) -> None:
    """Which operations autocast lowers differs from device to device: none of the iteration's may be left to it."""
    network = spectral_network()
    spectral_norm(network)
    lowered: list[bool] = []

    class Spy(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func in (torch.mv, torch.vdot, torch.dot):
                lowered.append(torch.is_autocast_enabled("cpu"))
            return func(*args, **(kwargs or {}))

    with torch.autocast("cpu", torch.bfloat16), Spy():
        network(torch.randn(2, 3, 8, 8, generator=rng))
        assert torch.is_autocast_enabled("cpu")
    assert len(lowered) >= 6 and not any(lowered)


def test_spectral_norm_is_saved_and_copied(rng: torch.Generator) -> None:
    network = spectral_network()
    spectral_norm(network)
    x = torch.randn(2, 3, 8, 8, generator=rng)
    for _ in range(3):
        network(x)
    copied = copy.deepcopy(network)
    twin = spectral_network()
    spectral_norm(twin)
    twin.load_state_dict(network.state_dict())
    want = [network(x) for _ in range(2)]  # the state of the iteration too
    assert not torch.equal(*want)
    for other in (copied, twin):
        assert all(torch.equal(other(x), out) for out in want)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.mul_(2)
    assert torch.equal(network.eval()(x), twin.eval()(x))


def test_a_copy_of_the_modules_shares_all_tensors() -> None:
    network = nn.Sequential(conv(3, 4, 3), InstanceNorm(4, "relu"), nn.BatchNorm2d(4))
    network[1].note = torch.ones(3)  # neither parameter nor buffer
    copied = copy_modules(network)
    pairs = zip(network.modules(), copied.modules(), strict=True)
    assert all(type(a) is type(b) and a is not b for a, b in pairs)
    tensors, others = network.state_dict(keep_vars=True), copied.state_dict(keep_vars=True)
    assert tensors.keys() == others.keys() and all(others[name] is tensor for name, tensor in tensors.items())
    assert copied[1].note is network[1].note
    copied[1].recording = True
    copied(torch.rand(1, 3, 8, 8))
    assert copied[1].frozen is not None and network[1].frozen is None and not network[1].recording
