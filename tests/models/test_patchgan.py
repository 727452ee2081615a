"""PatchGAN: size, receptive field, output shape."""

import itertools

import pytest
import torch
from helpers.bounds import approx
from helpers.networks import sums
from torch import Tensor, nn

from fastgan.models import PatchGAN


@pytest.mark.parametrize(("width", "layers"), [(64, 3), (8, 1), (8, 2), (4, 4), (2, 5)])
def test_parameter_count(width: int, layers: int) -> None:
    """4x4 kernels; a bias in the first and last alone, where no norm follows."""
    widths = [width * min(2**index, 8) for index in range(layers + 1)]
    want = 16 * 3 * widths[0] + widths[0]
    want += sum(16 * inputs * outputs for inputs, outputs in itertools.pairwise(widths))
    want += 16 * widths[-1] + 1
    assert sum(p.numel() for p in PatchGAN(width, layers).parameters()) == want


def test_published_size() -> None:
    """CycleGAN's 70x70 discriminator on 3 channels has 2,764,737 with instance norm: its convolutions keep biases."""
    count = sum(p.numel() for p in PatchGAN(64, 3).parameters())
    assert count == 2_764_737 - (128 + 256 + 512)


@pytest.mark.parametrize(("layers", "field"), [(1, 16), (2, 34), (3, 70), (4, 142)])
def test_receptive_field(layers: int, field: int) -> None:
    """Without norms, one logit depends on exactly ``field`` x ``field`` pixels (70 at three layers, as published)."""
    network = PatchGAN(2, layers).double()
    network.norms = nn.ModuleList(nn.Identity() for _ in network.norms)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.uniform_(module.weight, 0.1, 0.2)
    side = 2 * field + 2**layers
    x = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    logits = network(x)
    middle = logits.shape[-1] // 2
    (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle], x)
    rows, columns = gradient[0].abs().sum(0).nonzero().T
    assert rows.max() - rows.min() + 1 == columns.max() - columns.min() + 1 == field


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_min_side(layers: int) -> None:
    network = PatchGAN(2, layers)
    side = network.min_side
    logits = network(torch.rand(2, 3, side, side))
    assert logits.shape[:2] == (2, 1) and logits.numel() >= 2 and logits.isfinite().all()
    with pytest.raises(RuntimeError):
        network(torch.rand(2, 3, side - 1, side - 1))


def test_logits_are_float32_and_unbounded() -> None:
    network = PatchGAN(4, 3).bfloat16()
    logits = network(torch.randn(2, 3, 64, 48).bfloat16())
    assert logits.shape == (2, 1, 6, 4) and logits.dtype == torch.float32
    assert not any(isinstance(module, nn.Sigmoid) for module in network.modules())


@pytest.mark.parametrize("options", [{"width": 0}, {"layers": 0}])
def test_bad_options(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        PatchGAN(**options)


def test_no_upper_limit_to_the_side() -> None:
    assert PatchGAN(2, 1).max_side is None


def r1(network: PatchGAN, image: Tensor) -> Tensor:
    """Mescheder et al. 2018: the sum of the squared gradients of the logits by the image."""
    image = image.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network(image).sum(), image, create_graph=True)
    return gradient.square().sum()


def test_second_order_is_right(rng: torch.Generator) -> None:
    """The R1 penalty's gradient by the parameters, through convolutions and norms, against finite differences."""
    torch.manual_seed(0)
    network = PatchGAN(2, 1).double()
    image = torch.rand(2, 3, 16, 16, generator=rng, dtype=torch.float64) * 2 - 1
    assert network(image).dtype == torch.float64
    parameters = list(network.parameters())
    gradients = torch.autograd.grad(r1(network, image), parameters, allow_unused=True)
    step, checked = 1e-6, 0
    # Two penalties, each forward and back, are rounded, and the difference is divided by the step. What the step's size
    # itself makes wrong, its square times a third derivative, is far below that.
    bound = {"steps": 4 * sums(network, plane=8 * 8), "scale": r1(network, image).item() / (2 * step)}
    for parameter, gradient in zip(parameters, gradients, strict=True):
        flat = parameter.data.view(-1)
        for index in range(0, flat.numel(), 5):
            sides = []
            for sign in (1, -1):
                flat[index] += sign * step
                sides.append(r1(network, image).item())
                flat[index] -= sign * step
            want = (sides[0] - sides[1]) / (2 * step)
            have = 0.0 if gradient is None else gradient.reshape(-1)[index].item()
            assert have == approx(want, **bound, dtype=torch.float64)
            checked += want != approx(0.0, **bound, dtype=torch.float64)
    assert checked > 20
    assert torch.autograd.gradgradcheck(network, image[:1].clone().requires_grad_(), fast_mode=True)
