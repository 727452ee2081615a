"""PatchGAN: size, receptive field, output shape."""

import itertools

import pytest
import torch
from torch import nn

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
