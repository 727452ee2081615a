"""How a style reaches a fusing network's picture: calibrated moments, predicted norms, the surface."""

import pytest
import torch
import torch.nn.functional as F
from helpers.bounds import approx, assert_close, rounding
from helpers.networks import sums
from helpers.tiny_fusion import FUSIONS, LEVEL, SCALES, network, random_features, styles
from torch import Tensor, nn

from fastgan.models import FusionGenerator
from fastgan.models.fusion_layers import ConditionalInstanceNorm, FusedFeatureStats
from fastgan.models.layers import EPS

LAYERS = ("relu2_1", "relu1_1")


def float64_moments(x: Tensor) -> Tensor:
    """(N, C, H, W) to (N, 2C): means, then standard deviations with the eps of the norms."""
    x = x.double()
    return torch.cat([x.mean((2, 3)), (x.var((2, 3), correction=0) + EPS).sqrt()], 1)


def eps_share(*features: Tensor) -> float:
    """The part that the eps of the norms takes from the quietest plane's deviation, as a share."""
    return EPS / 2 / min(x.var((2, 3), correction=0).min().item() for x in features)


# --- calibration


def test_features_of_any_loudness_start_the_decoder_alike(rng: torch.Generator) -> None:
    """The scales are the root mean squares of the two layers; with the moments' center and unit they are saved."""
    outputs, shares = [], []
    for loudness in (1, 200):
        made = network()
        features = {
            name: value * loudness for name, value in random_features(made, (8, 10), rng.manual_seed(5)).items()
        }
        features["relu1_1"] = features["relu1_1"] * 3
        made.calibrate(features)
        for name, scale in zip(LAYERS, (made.scale, made.surface_scale), strict=True):
            exact = features[name].double().square().mean().sqrt().item()
            assert scale.item() == approx(exact, terms=features[name].numel())
        code = made.encode_style(styles(made, rng.manual_seed(6), loud=5 * loudness))
        outputs.append(made(features, code))
        for fused in made.fuse(features, code, 0.0):
            assert fused.square().mean().item() == approx(1, terms=fused.numel(), steps=2)  # by the scale's mean, too
        shares.append(eps_share(*features.values()))
        state = made.state_dict()
        twin = FusionGenerator(**made.config)
        twin.load_state_dict(state)
        for name in ("scale", "surface_scale", "moments.centre", "moments.unit"):
            assert torch.equal(twin.get_buffer(name), state[name]), name
        assert torch.equal(twin(features, code), outputs[-1])
    near = rounding(steps=2 * sums(made, plane=8 * 10)) + max(shares)
    torch.testing.assert_close(*outputs, rtol=0, atol=near * outputs[0].abs().max().item())


def test_of_nothing(rng: torch.Generator) -> None:
    made = network()
    made.calibrate({"relu2_1": torch.zeros(1, 128, 4, 4), "relu1_1": torch.zeros(1, 64, 8, 8)})
    assert made.scale == 1 and made.surface_scale == 1
    assert made.moments.unit.min() > 0
    assert made(random_features(made, (8, 10), rng), made.encode_style(styles(made, rng))).isfinite().all()


def test_moments_are_compared_with_those_of_photographs(rng: torch.Generator) -> None:
    """Center: their mean over images. Unit: some times their mean size, a tenth of the average at the least."""
    made = network()
    features = random_features(made, (16, 22), rng, n=3)
    loud = torch.logspace(-3, 1, 128).view(1, -1, 1, 1)
    features["relu2_1"] = (torch.randn(features["relu2_1"].shape, generator=rng) - 0.5) * loud
    made.calibrate(features)
    moments = float64_moments(features["relu2_1"].double() / made.scale.double())
    size = moments.abs().mean(0)
    # Over the scale, of planes, over the images; each channel by its own size.
    bound = {"terms": 8 * 11, "steps": 3, "dtype": torch.float32}
    assert_close(made.moments.centre / size, moments.mean(0) / size, **bound)
    least = 0.1 * size.mean()
    assert (size < least).any() and (size > least).any()
    times = made.moments.unit.double() / size.clamp_min(least)
    assert_close(times, times.mean().expand(256), **bound)
    assert 1 < times.mean() < 20
    fused, _ = made.fuse(features, made.encode_style(styles(made, rng, n=3)), 0.0)
    assert_close(made.moments(fused).mean(0), torch.zeros(256), **bound, scale=1 / times.mean().item())


# --- moments and norms


def test_fused_moments_are_held_as_they_are_taken(rng: torch.Generator) -> None:
    moments = FusedFeatureStats(5)
    moments.centre.copy_(torch.randn(10, generator=rng))
    moments.unit.copy_(torch.rand(10, generator=rng) + 0.5)
    x, other = torch.randn(2, 2, 5, 6, 7, generator=rng)
    x[0, 2] = 0.25  # a channel without deviation
    center, unit = moments.centre.double(), moments.unit.double()
    want = (float64_moments(x) - center) / unit
    bound = {"terms": 6 * 7, "scale": ((x.abs().max() + center.abs()) / unit).max().item()}
    free = moments(x)
    assert free.shape == (2, 10)
    assert_close(free, want, **bound)
    moments.frozen = (torch.zeros(2, 5, 1, 1), torch.ones(2, 5, 1, 1))  # of an earlier picture
    moments.recording = True
    assert torch.equal(moments(x), free)
    moments.recording = False
    assert_close(moments(x), free, **bound, steps=2)
    assert torch.equal(moments(other), moments(x))
    moments.frozen = None
    assert (moments(other) - free).abs().mean() > rounding(6 * 7, 2) * bound["scale"]


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("held", [False, True])
def test_a_styled_norm_follows_its_prediction(
    activation: str | None, residual: bool, held: bool, rng: torch.Generator
) -> None:
    """At first a plain instance norm, whatever the moments; then the linear layer gives each image weight and bias."""
    norm = ConditionalInstanceNorm(6, 10, activation).double()
    x, y = torch.randn(2, 3, 6, 7, 8, generator=rng, dtype=torch.float64) * 3 + 1
    moments = torch.randn(3, 10, generator=rng, dtype=torch.float64)
    if held:
        norm.recording = True
        norm.styled(x, moments)
        norm.recording = False
        assert norm.frozen is not None
    skip = y if residual else None

    def finished(normed: Tensor) -> Tensor:
        out = normed.relu() if activation else normed
        return out + y if residual else out

    plain = F.instance_norm(x)
    bound = {"terms": 7 * 8, "steps": 4}  # the moments and what is done by them, twice
    assert_close(norm.styled(x, moments, skip), finished(plain), **bound)
    nn.init.normal_(norm.predict.weight, generator=rng)
    nn.init.normal_(norm.predict.bias, generator=rng)
    predicted = moments @ norm.predict.weight.T + norm.predict.bias
    weight, bias = predicted[:, :6, None, None], predicted[:, 6:, None, None]
    assert_close(norm.styled(x, moments, skip), finished(plain * weight + bias), **bound)


def test_at_first_all_styled_norms_are_plain() -> None:
    norms = [module for module in FusionGenerator(4, 2).modules() if isinstance(module, ConditionalInstanceNorm)]
    assert len(norms) == 1 + 2 * 2 + 2  # project, two a block, one an upsampling
    for norm in norms:
        assert not norm.predict.weight.any()
        weight, bias = norm.predict.bias.chunk(2)
        assert (weight == 1).all() and not bias.any()


# --- the ways of the style


def silence(made: FusionGenerator, *ways: str) -> FusionGenerator:
    """Cut the style's way by the norms or by the surface."""
    if "norms" in ways:
        for name, parameter in made.named_parameters():
            if name.endswith("predict.weight"):
                nn.init.zeros_(parameter)
    if "surface" in ways:
        made.to_rgb.weight.data[:, -64:] = 0
        if made.fusion.mode == "wct":  # it is what comes in by the side, too
            made.ups[-1].conv.weight.data[:, -64:] = 0
    return made


def test_flat_styles_come_by_the_norms_and_by_the_surface(rng: torch.Generator) -> None:
    """A constant added to features is undone by the norm behind the next convolution: two ways remain.

    By the surface it is to_rgb's weights times the constant, before tanh; half of it, content and style being equals.
    """
    networks = {
        "both": network("additive"),
        "norms": silence(network("additive"), "surface"),
        "surface": silence(network("additive"), "norms"),
        "none": silence(network("additive"), "norms", "surface"),
    }
    features = {name: value.double() for name, value in random_features(network(), (8, 10), rng).items()}
    values = torch.rand(2, 192, generator=rng, dtype=torch.float64) * 1.5
    flat = values[:, :, None, None].expand(-1, -1, 32, 32)
    moved, largest = {}, 0.0
    for name, made in networks.items():
        made.double()
        made.to_rgb.weight.data *= 0.2
        outs = made(features, flat), made(features, flat * 0)
        moved[name] = outs[0].atanh() - outs[1].atanh()
        largest = max(largest, *(out.abs().max().item() for out in outs))
    # The differences of two passes each; atanh makes an error larger by its slope.
    bound = {"steps": 4 * sums(made, plane=8 * 10), "scale": 1 / (1 - largest**2)}
    assert_close(moved["none"], torch.zeros_like(moved["none"]), **bound)
    weight = networks["surface"].to_rgb.weight[:, -64:].sum((2, 3))
    scale = networks["surface"].surface_scale
    want = (values[:, 128:] @ weight.T / scale / 2)[:, :, None, None].expand(-1, -1, 8, 10)
    assert want.abs().mean() > LEVEL
    assert_close(moved["surface"], want, **bound)
    assert moved["norms"].abs().mean() > rounding(steps=bound["steps"], dtype=torch.float64) * bound["scale"]
    assert_close(moved["both"], moved["norms"] + moved["surface"], **bound)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_each_way_is_enough(fusion: str, rng: torch.Generator) -> None:
    """And each half of a code is of its own layer alone."""
    features = random_features(network(), (8, 10), rng)
    first, second = (network(fusion).encode_style(styles(network(), rng, loud=loud)) for loud in (5, 15))
    surface = torch.cat([first[:, :128], second[:, 128:]], 1)
    deep = torch.cat([second[:, :128], first[:, 128:]], 1)
    by_norms, by_surface = silence(network(fusion), "surface"), silence(network(fusion), "norms")
    assert (by_norms(features, deep) - by_norms(features, first)).abs().mean() > LEVEL
    assert torch.equal(by_norms(features, surface), by_norms(features, first))
    assert (by_surface(features, surface) - by_surface(features, first)).abs().mean() > LEVEL


def test_structure_comes_by_the_skips(rng: torch.Generator) -> None:
    """Twice the code is another picture; twice the content's relu1_1 is the same structure, and one mirrored is not."""
    made = network(width=8)
    features = random_features(made, (16, 20), rng)
    code = made.encode_style(styles(made, rng))
    want = made(features, code)
    assert (made(features, code * 2) - want).abs().mean() > LEVEL
    louder = {**features, "relu1_1": features["relu1_1"] * 2 + 5}
    surface = features["relu1_1"]
    near = rounding(steps=2 * sums(made, plane=16 * 20)) + eps_share(surface, surface / SCALES[1])
    torch.testing.assert_close(made(louder, code), want, rtol=0, atol=near * want.abs().max().item())
    silence(made, "surface")
    want = made(features, code, 0.5)
    torch.testing.assert_close(made(louder, code, 0.5), want, rtol=0, atol=near * want.abs().max().item())
    mirrored = {**features, "relu1_1": features["relu1_1"].flip(3)}
    assert (made(mirrored, code, 0.5) - want).abs().mean() > LEVEL
