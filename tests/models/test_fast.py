"""The ``fast`` generator: sizes, range, receptive radius, and nothing that makes a checkerboard."""

import pytest
import torch
from helpers.bounds import assert_close, rounding
from helpers.networks import sums
from torch import Tensor, nn

from fastgan.models import FastGenerator
from fastgan.models.layers import InstanceNorm

STEMS = ["unshuffle", "conv9"]


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("size", [(8, 8), (8, 9), (9, 8), (10, 11), (11, 15), (13, 40), (17, 23), (33, 34), (35, 12)])
def test_any_size_comes_out_as_it_went_in(size: tuple[int, int], stem: str, rng: torch.Generator) -> None:
    x = torch.rand(2, 3, *size, generator=rng) * 2 - 1
    out = FastGenerator(4, 1, stem=stem)(x)
    assert out.shape == x.shape and out.dtype == torch.float32
    assert out.isfinite().all() and out.abs().max() <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("stem", STEMS)
def test_every_parameter_learns(stem: str, dtype: torch.dtype, rng: torch.Generator) -> None:
    torch.manual_seed(0)
    network = FastGenerator(8, 2, stem=stem).to(dtype)
    (network(torch.rand(2, 3, 24, 24, generator=rng).to(dtype) * 2 - 1) + 0.5).square().mean().backward()
    sizes = {name: 0.0 if p.grad is None else p.grad.abs().max().item() for name, p in network.named_parameters()}
    # What rounding leaves in float64 where terms cancel, forward and back.
    least = rounding(steps=2 * sums(network, plane=24 * 24), dtype=torch.float64) * max(sizes.values())
    silent = {name for name, size in sizes.items() if size < least}
    # A constant on the residual stream is taken away by whichever norm comes next.
    assert silent <= {f"blocks.{index}.norm2.bias" for index in range(2)}


@pytest.mark.parametrize("stem", STEMS)
def test_layouts_agree(stem: str, rng: torch.Generator) -> None:
    torch.manual_seed(0)
    network = FastGenerator(4, 1, stem=stem)
    x = torch.rand(2, 3, 18, 22, generator=rng) * 2 - 1
    want = network(x)
    have = network.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    assert_close(have, want, steps=2 * sums(network, plane=20 * 24))


def frozen_positive(stem: str, depth: int) -> FastGenerator:
    """All weights positive, norms that only scale: no path from input to output is cut or canceled."""
    network = FastGenerator(2, depth, stem=stem).double()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.uniform_(module.weight, 0.1, 0.2)
        if isinstance(module, InstanceNorm):
            shape = (1, module.weight.shape[0], 1, 1)
            module.frozen = (torch.zeros(shape).double(), torch.full(shape, 0.05).double())
    return network


def farthest(network: FastGenerator, image: Tensor, place: tuple[int, int]) -> int:
    """How many pixels away, along either axis, an input pixel that the output pixel at ``place`` depends on lies."""
    x = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(x)[0, :, place[0], place[1]].sum(), x)
    touched = gradient[0].abs().sum(0).nonzero()
    assert len(touched)
    return int((touched - torch.tensor(place)).abs().max())


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("depth", [1, 3])
def test_reach_is_exact(stem: str, depth: int) -> None:
    """No output pixel sees further than ``receptive_radius``, and one of a period of the strides sees as far."""
    network = frozen_positive(stem, depth)
    side = (2 * network.receptive_radius + 24) // 4 * 4
    image = torch.rand(1, 3, side, side, dtype=torch.float64)
    middle = side // 8 * 4
    distances = [farthest(network, image, (middle + offset, middle + (offset * 3) % 4)) for offset in range(4)]
    assert max(distances) == network.receptive_radius


def test_no_checkerboard_by_construction() -> None:
    """Every enlargement is nearest upsampling and a stride-1 convolution, and no stride leaves a kernel overlap
    uneven: an interior unit impulse is spread alike wherever it stands on the output grid."""
    for stem in STEMS:
        network = FastGenerator(4, 2, stem=stem)
        kinds = {type(module) for module in network.modules()}
        assert not any(issubclass(kind, nn.modules.conv._ConvTransposeNd | nn.PixelShuffle) for kind in kinds)
        assert all(convolution.stride == (1, 1) and convolution.kernel_size == (3, 3) for convolution, _ in network.up)


def test_flat_input_gives_flat_output() -> None:
    """A transposed convolution with uneven overlap prints its pattern on a flat image; this network may not."""
    for stem in STEMS:
        network = frozen_positive(stem, 1)
        nn.init.normal_(network.to_rgb.weight, generator=torch.Generator().manual_seed(1))
        out = network(torch.full((1, 3, 32, 32), 0.25, dtype=torch.float64)).float()
        assert_close(out, out[..., :1, :1].expand(out.shape))  # computed in float64, rounded once to float32


def test_float64_stays() -> None:
    network = FastGenerator(4, 1)
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    single = network(x)
    double = network.double()(x.double())
    assert single.dtype == torch.float32 and double.dtype == torch.float64
    assert not torch.equal(double, double.float().double())
    assert_close(single, double, steps=2 * sums(network), scale=1.0)


def test_config_rebuilds_the_network() -> None:
    network = FastGenerator(6, 2, stem="conv9")
    twin = FastGenerator(**network.config)
    twin.load_state_dict(network.state_dict())
    assert [p.shape for p in twin.parameters()] == [p.shape for p in network.parameters()]


@pytest.mark.parametrize("options", [{"width": 1}, {"depth": 0}, {"stem": "conv7"}])
def test_bad_options(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        FastGenerator(**options)  # type: ignore[arg-type]


def test_published_network_size() -> None:
    """``conv9`` at width 32, depth 5 is Johnson's network: 1,679,235 parameters with biases in every convolution.

    Here the convolutions before a norm have none (the norm cancels it): 32 + 64 + 128 + 10 * 128 + 64 + 32 fewer.
    """
    count = sum(p.numel() for p in FastGenerator(32, 5, stem="conv9").parameters())
    assert count == 1_679_235 - (32 + 64 + 128 + 10 * 128 + 64 + 32)
