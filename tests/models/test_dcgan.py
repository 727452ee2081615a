"""DCGAN (SPEC S1): the layers of the paper, sizes, norms."""

import itertools

import pytest
import torch
from helpers.bounds import assert_close
from helpers.networks import assert_close_in_bfloat16, sums, usual_size
from torch import Tensor, nn

from fastgan.models import DCGANDiscriminator, DCGANGenerator

NORMS = ["batch", "instance", "none"]


def test_published_generator() -> None:
    """Radford et al.'s 64 px network in its well-known PyTorch form (nz 100, ngf 64) has 3,576,704 parameters, by a
    transposed convolution where this one projects linearly: as many weights. Its last layer has no bias; its other
    transposed convolutions are 4x4, where these are 3x3 after upsampling."""
    count = sum(p.numel() for p in DCGANGenerator().parameters())
    assert count == 3_576_704 + 3 - 7 * (512 * 256 + 256 * 128 + 128 * 64 + 64 * 3)


def test_published_discriminator() -> None:
    """That form's (ndf 64) has 2,765,568; biases in the first and last layer, which have no norm, are ours."""
    count = sum(p.numel() for p in DCGANDiscriminator().parameters())
    assert count == 2_765_568 + 64 + 1


def plain_generator(width: int, size: int, depth: int, z_dim: int) -> int:
    """Parameters counted layer by layer."""
    widths = [min(8 * width, width * size // (2 * side)) for side in (2**k for k in range(2, 10)) if side < size]
    assert widths[-1] == width and max(widths) <= 8 * width
    total = z_dim * 16 * widths[0] + 2 * widths[0]
    for inputs, outputs in itertools.pairwise(widths):
        total += 9 * inputs * outputs + 2 * outputs + (depth - 1) * (9 * outputs**2 + 2 * outputs)
    return total + 9 * width * 3 + 3


@pytest.mark.parametrize(
    ("size", "depth", "width"), [(8, 1, 4), (16, 3, 4), (32, 2, 3), (64, 1, 2), (128, 2, 2), (1024, 1, 1)]
)
def test_sizes(size: int, depth: int, width: int, rng: torch.Generator) -> None:
    generator = DCGANGenerator(width, depth, size=size, z_dim=7)
    assert sum(p.numel() for p in generator.parameters()) == plain_generator(width, size, depth, 7)
    images = generator(torch.randn(2, 7, generator=rng))
    assert images.shape == (2, 3, size, size) and images.dtype == torch.float32 and images.abs().max() <= 1
    discriminator = DCGANDiscriminator(width, depth, size=size)
    assert discriminator.min_side == discriminator.max_side == generator.size == size and generator.z_dim == 7
    logits = discriminator(images)
    assert logits.shape == (2, 1) and logits.dtype == torch.float32
    sides: list[int] = []
    for stage in discriminator.stages:
        stage.register_forward_hook(lambda _m, _i, out: sides.append(out.shape[-1]))
    discriminator(images)
    assert sides == [size // 2 ** (index + 1) for index in range(len(sides))] and sides[-1] == 4


def test_generator_layer_by_layer(rng: torch.Generator) -> None:
    """Against torch.nn.functional, layer by layer, with the batch's own moments."""
    torch.manual_seed(0)
    network = DCGANGenerator(2, 2, size=16, z_dim=5).double()
    z = torch.randn(3, 5, generator=rng).double()
    parameters = iter(network.parameters())

    def norm(x: Tensor) -> Tensor:
        var, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
        weight, bias = (next(parameters)[None, :, None, None] for _ in range(2))
        return ((x - mean) / (var + 1e-5).sqrt() * weight + bias).relu()

    functional = nn.functional
    h = norm((z @ next(parameters).T).reshape(3, 4, 4, 4))
    h = norm(functional.conv2d(functional.interpolate(h, scale_factor=2), next(parameters), padding=1))
    h = norm(functional.conv2d(h, next(parameters), padding=1))
    h = functional.interpolate(h, scale_factor=2)
    want = functional.conv2d(h, next(parameters), next(parameters), padding=1).tanh()
    assert next(parameters, None) is None
    assert_close(network(z), want, steps=2 * sums(network, plane=3 * 8 * 8))


@pytest.mark.parametrize("norm", NORMS)
def test_discriminator_is_the_papers(norm: str, rng: torch.Generator) -> None:
    torch.manual_seed(0)
    network = DCGANDiscriminator(2, 2, size=16, norm=norm).double()
    x = torch.rand(3, 3, 16, 16, generator=rng).double() * 2 - 1
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    parameters = iter(network.parameters())

    def layer(x: Tensor, stride: int, normed: bool = True) -> Tensor:
        weight = next(parameters)
        bias = None if normed and norm != "none" else next(parameters)
        x = nn.functional.conv2d(x, weight, bias, stride=stride, padding=1)
        if normed and norm != "none":
            axes = (0, 2, 3) if norm == "batch" else (2, 3)
            var, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
            x = (x - mean) / (var + 1e-5).sqrt()
            if norm == "batch":
                x = x * next(parameters)[None, :, None, None] + next(parameters)[None, :, None, None]
        return torch.where(x > 0, x, 0.2 * x)

    h = layer(layer(x, 2, normed=False), 1)
    h = layer(layer(h, 2), 1)
    want = torch.einsum("nchw,ochw->no", h, next(parameters)) + next(parameters)
    assert next(parameters, None) is None
    bound = {"steps": 2 * sums(network, plane=3 * 8 * 8), "scale": usual_size(network.to_logit, h)}
    assert_close(network(x), want, **bound)
    network.eval()  # the same moments as in training
    assert_close(network(x), want, **bound)
    assert not dict(network.named_buffers())


def test_published_initialization() -> None:
    """Means and deviations within five standard errors."""
    torch.manual_seed(0)
    for network in (DCGANGenerator(16), DCGANDiscriminator(16)):
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                assert not parameter.any()
                continue
            error = 0.02 / parameter.numel() ** 0.5
            assert abs(parameter.mean() - (1.0 if parameter.dim() == 1 else 0.0)) < 5 * error
            assert abs(parameter.std() - 0.02) < 5 * error / 2**0.5


def test_generator_keeps_running_moments_for_single_images(rng: torch.Generator) -> None:
    torch.manual_seed(0)
    network = DCGANGenerator(4, size=16, z_dim=6).double()
    z = torch.randn(64, 6, generator=rng).double()
    for _ in range(400):  # 0.9^400 of the first moments is left: below rounding
        network(z)
    trained = network(z)
    network.eval()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    counts = [len(z) * side**2 for side in (4, 8)]
    for norm, count in zip(norms, counts, strict=True):
        norm.running_var *= (count - 1) / count  # it keeps the unbiased variance; a batch is divided by the other
    bound = {"steps": 2 * sums(network, plane=counts[-1])}
    assert_close(network(z), trained, **bound)
    assert_close(network(z[:1]), network(z)[:1], **bound)


@pytest.mark.parametrize("norm", NORMS)
def test_layouts_agree_and_everything_learns(norm: str, rng: torch.Generator) -> None:
    torch.manual_seed(0)
    generator, discriminator = DCGANGenerator(4, size=16), DCGANDiscriminator(4, size=16, norm=norm)
    z = torch.randn(4, 100, generator=rng)
    images = generator(z)
    sizes: list[float] = []
    with discriminator.to_logit.register_forward_pre_hook(
        lambda module, given: sizes.append(usual_size(module, given[0]))
    ):
        logits = discriminator(images)
    (logits - 1).square().mean().backward()
    for network in (generator, discriminator):
        assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    for network in (generator, discriminator):
        network.to(memory_format=torch.channels_last)
    assert_close(generator(z), images, steps=2 * sums(generator, plane=4 * 8 * 8))
    again = discriminator(images.contiguous(memory_format=torch.channels_last))
    assert_close(again, logits, steps=2 * sums(discriminator, plane=4 * 8 * 8), scale=sizes[0])
    with torch.autocast("cpu", torch.bfloat16):
        made = generator(z)
        rounded = discriminator(made)
    assert made.dtype == rounded.dtype == torch.float32
    assert_close_in_bfloat16(made, images, generator)


def test_config_rebuilds() -> None:
    for network in (DCGANGenerator(3, 2, size=32, z_dim=9), DCGANDiscriminator(3, 2, size=32, norm="none")):
        type(network)(**network.config).load_state_dict(network.state_dict())


@pytest.mark.parametrize("kind", [DCGANGenerator, DCGANDiscriminator])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"width": 0}, "at least 1"),
        ({"depth": 0}, "at least 1"),
        *[({"size": size}, f"size must be one of 8, 16, .*, 1024, got {size}") for size in (4, 12, 48, 100, 2048)],
    ],
)
def test_bad_options(kind: type[nn.Module], options: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        kind(**options)


def test_bad_inputs() -> None:
    with pytest.raises(ValueError, match="norm must be one of 'batch', 'instance', 'none', got 'layer'"):
        DCGANDiscriminator(norm="layer")
    with pytest.raises(ValueError, match="z_dim must be at least 1"):
        DCGANGenerator(z_dim=0)
    for shape in ((2, 9), (2, 8, 1, 1), (8,)):
        with pytest.raises(ValueError, match=r"z must be \(N, 8\)"):
            DCGANGenerator(2, size=8, z_dim=8)(torch.zeros(shape))
    with pytest.raises(ValueError, match="images must be 16 x 16, got 32 x 16"):
        DCGANDiscriminator(2, size=16)(torch.zeros(1, 3, 32, 16))
