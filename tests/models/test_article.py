"""The literal networks (SPEC S11) against the semantics of Keras, written out."""

import pytest
import torch
import torch.nn.functional as F
from helpers.bounds import assert_close
from helpers.networks import assert_close_in_bfloat16, sums, usual_size
from torch import Tensor, nn

from fastgan.models import ArticleDiscriminator, ArticleGenerator
from fastgan.models.layers import ConvAct


def convolve(x: Tensor, layer: nn.Conv2d, stride: int = 1) -> Tensor:
    """Keras's Conv2D 3x3 'same' as sums over the kernel: in all max((ceil(n / s) - 1) s + 3 - n, 0) is padded, the
    smaller half before."""
    sides = [-(-side // stride) for side in x.shape[-2:]]
    padded = x
    for axis, side in zip((2, 3), sides, strict=True):
        total = max((side - 1) * stride + 3 - x.shape[axis], 0)
        shape = list(padded.shape)
        before, after = ([*shape[:axis], count, *shape[axis + 1 :]] for count in (total // 2, total - total // 2))
        padded = torch.cat([x.new_zeros(before), padded, x.new_zeros(after)], axis)
    out = layer.bias[None, :, None, None].expand(len(x), -1, *sides).clone()
    for row in range(3):
        for column in range(3):
            picked = padded[:, :, row::stride, column::stride][..., : sides[0], : sides[1]]
            out += torch.einsum("nchw,oc->nohw", picked, layer.weight[:, :, row, column])
    return out


def scatter(x: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
    """Keras's Conv2DTranspose 3x3 stride 2 'same': each pixel adds its kernel at (2i, 2j); what passes 2n is cut."""
    n, _, height, width = x.shape
    out = layer.bias[None, :, None, None].expand(n, -1, 2 * height, 2 * width).clone()
    for i in range(height):
        for j in range(width):
            patch = torch.einsum("nc,cohw->nohw", x[:, :, i, j], layer.weight)
            room = out[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            room += patch[..., : room.shape[-2], : room.shape[-1]]
    return out


def with_biases(network: nn.Module) -> nn.Module:
    network.double()
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, 0.1, 0.1)
    return network


def test_published_sizes() -> None:
    assert sum(p.numel() for p in ArticleGenerator().parameters()) == 151_235
    assert sum(p.numel() for p in ArticleDiscriminator().parameters()) == 327_713


def layers_of(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if not list(module.children())]


def test_the_layers_are_the_articles() -> None:
    convolutions = [m for m in layers_of(ArticleGenerator()) if hasattr(m, "weight")]
    kinds = {nn.Conv2d: "Conv2d", ConvAct: "Conv2d", nn.ConvTranspose2d: "ConvTranspose2d"}
    assert [(kinds[type(m)], m.in_channels, m.out_channels, m.stride) for m in convolutions] == [
        ("Conv2d", 3, 64, (1, 1)),
        ("Conv2d", 64, 64, (1, 1)),
        ("ConvTranspose2d", 64, 64, (2, 2)),
        ("Conv2d", 64, 64, (1, 1)),
        ("ConvTranspose2d", 64, 64, (2, 2)),
        ("Conv2d", 64, 3, (1, 1)),
    ]
    *convolutions, dense = [m for m in layers_of(ArticleDiscriminator()) if hasattr(m, "weight")]
    shape = [(m.in_channels, m.out_channels, m.stride) for m in convolutions]
    assert shape == [(3, 32, (1, 1)), (32, 32, (2, 2)), (32, 64, (1, 1)), (64, 64, (2, 2))]
    assert dense.in_features == 64 * 64 * 64 and dense.out_features == 1


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_generator_is_kerass(depth: int, rng: torch.Generator) -> None:
    torch.manual_seed(0)
    network = with_biases(ArticleGenerator(3, depth))
    x = torch.rand(2, 3, 12, 20, generator=rng).double() * 2 - 1
    h = x.reshape(2, 3, 3, 4, 5, 4).mean((3, 5))
    *down, up1, middle, up2, to_rgb = [m for m in layers_of(network) if hasattr(m, "weight")]
    assert len(down) == depth
    for layer in down:
        h = convolve(h, layer).relu()
    h = convolve(scatter(h, up1).relu(), middle).relu()
    want = convolve(scatter(h, up2).relu(), to_rgb).tanh()
    assert_close(network(x), want, steps=2 * sums(network))


@pytest.mark.parametrize(("depth", "size"), [(1, 6), (2, 12), (3, 16)])
def test_discriminator_is_kerass(depth: int, size: int, rng: torch.Generator) -> None:
    torch.manual_seed(0)
    network = with_biases(ArticleDiscriminator(2, depth, size=size))
    x = torch.rand(3, 3, size, size, generator=rng).double() * 2 - 1
    *convolutions, dense = [m for m in layers_of(network) if hasattr(m, "weight")]
    h = x
    for index, layer in enumerate(convolutions):
        h = convolve(h, layer, 1 + index % 2).relu()
    want = h.flatten(1) @ dense.weight.T + dense.bias
    logits = network(x)
    assert logits.shape == (3, 1) and logits.dtype == torch.float64 and h.shape[1] == 2**depth
    assert_close(logits, want, steps=2 * sums(network), scale=usual_size(dense, h.flatten(1)))
    assert (network(x * 20) < 0).any() or (network(x * 20) > 1).any()  # no sigmoid


@pytest.mark.parametrize(("kind", "options"), [(ArticleGenerator, {}), (ArticleDiscriminator, {"size": 16})])
def test_glorot_uniform_and_no_bias(kind: type[nn.Module], options: dict[str, int]) -> None:
    torch.manual_seed(0)
    for module in layers_of(kind(16, 2, **options)):
        if not hasattr(module, "weight"):
            continue
        weight = module.weight
        area = weight[0, 0].numel() if weight.dim() == 4 else 1
        limit = (6 / (area * (weight.shape[0] + weight.shape[1]))) ** 0.5
        assert 0.9 * limit < weight.abs().max() <= limit  # of 432 or more, none beyond 0.9: one in 10^19
        # A uniform distribution's fourth moment is 9 / 5 of its variance's square: five standard errors.
        assert abs(weight.std() / (limit / 3**0.5) - 1) < 5 * (0.8 / (4 * weight.numel())) ** 0.5
        assert not module.bias.any()


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (3, 4), (5, 5), (8, 8), (11, 14), (21, 6)])
def test_any_size_comes_out_as_it_went_in(size: tuple[int, int], rng: torch.Generator) -> None:
    x = torch.rand(2, 3, *size, generator=rng) * 2 - 1
    network = ArticleGenerator(4)
    out = network(x)
    assert out.shape == x.shape and out.dtype == torch.float32 and out.abs().max() <= 1
    bottom, right = -size[0] % 4, -size[1] % 4
    mode = "reflect" if bottom < size[0] and right < size[1] else "replicate"
    whole = network(F.pad(x, (0, right, 0, bottom), mode=mode))
    assert torch.equal(out, whole[..., : size[0], : size[1]])


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_reach_is_exact(depth: int) -> None:
    network = ArticleGenerator(1, depth).double()
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 0.1, 0.2)
    side = (2 * network.receptive_radius + 24) // 4 * 4
    x = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    farthest = 0
    for offset in range(4):
        place = side // 8 * 4 + offset
        (gradient,) = torch.autograd.grad(network(x)[0, :, place, place].sum(), x)
        touched = gradient[0].abs().sum(0).nonzero()
        farthest = max(farthest, int((touched - place).abs().max()))
    assert farthest == network.receptive_radius


@pytest.mark.parametrize("size", [(90, 61), (47, 130)])
def test_tiles_give_the_whole(size: tuple[int, int], rng: torch.Generator) -> None:
    torch.manual_seed(0)
    network = with_biases(ArticleGenerator(4))
    x = torch.rand(1, 3, *size, generator=rng).double() * 2 - 1
    want = network(x)
    border = -(-network.receptive_radius // network.stride) * network.stride
    for top in range(0, size[0], 16):
        for left in range(0, size[1], 16):
            rows = slice(max(0, top - border), min(size[0], top + 16 + border))
            columns = slice(max(0, left - border), min(size[1], left + 16 + border))
            done = network(x[..., rows, columns])[..., top - rows.start :, left - columns.start :][..., :16, :16]
            core = want[..., top : top + 16, left : left + 16]
            assert_close(
                done[..., : core.shape[-2], : core.shape[-1]],
                core,
                steps=2 * sums(network),
                scale=want.abs().max().item(),
            )


@pytest.mark.parametrize(("kind", "options"), [(ArticleGenerator, {}), (ArticleDiscriminator, {"size": 16})])
def test_every_parameter_learns_and_layouts_agree(
    kind: type[nn.Module], options: dict[str, int], rng: torch.Generator
) -> None:
    torch.manual_seed(0)
    network = kind(4, **options)
    last = [module for module in layers_of(network) if hasattr(module, "weight")][-1]
    sizes: list[float] = []
    x = torch.rand(2, 3, 16, 16, generator=rng) * 2 - 1
    with last.register_forward_pre_hook(lambda module, given: sizes.append(usual_size(module, given[0]))):
        out = network(x)
    (out - 0.5).square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    assert_close(network(x.contiguous(memory_format=torch.channels_last)), out, steps=2 * sums(network), scale=sizes[0])
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(x)
    assert rounded.dtype == torch.float32
    assert_close_in_bfloat16(rounded, out, network, scale=sizes[0])


def test_config_rebuilds() -> None:
    for network in (ArticleGenerator(5, 3), ArticleDiscriminator(5, 3, size=24)):
        twin = type(network)(**network.config)
        twin.load_state_dict(network.state_dict())
    assert twin.min_side == twin.max_side == 24
    assert ArticleGenerator.stride == 4


@pytest.mark.parametrize("options", [{"width": 0}, {"depth": 0}, {"width": -1}])
def test_bad_options(options: dict[str, int]) -> None:
    for kind in (ArticleGenerator, ArticleDiscriminator):
        with pytest.raises(ValueError, match="at least 1"):
            kind(**options)


def test_bad_sizes() -> None:
    for depth, size in ((2, 30), (3, 20), (2, 0), (1, 7)):
        with pytest.raises(ValueError, match=f"size must be a multiple of {2**depth} at depth {depth}, got {size}"):
            ArticleDiscriminator(4, depth, size=size)
    with pytest.raises(ValueError, match="images must be 16 x 16, got 16 x 12"):
        ArticleDiscriminator(4, size=16)(torch.zeros(1, 3, 16, 12))
