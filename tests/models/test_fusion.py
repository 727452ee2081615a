"""Many styles in one network (SPEC S5 to S7): strength, fused features, codes, refusals."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.bounds import assert_close, rounding, unit
from helpers.networks import assert_close_in_bfloat16, sums
from helpers.tiny_fusion import CHANNELS, FUSIONS, LEVEL, SCALES, network, random_features, set_recording, styles
from torch import Tensor

from fastgan import ops
from fastgan.models import FusionGenerator, VGGEncoder
from fastgan.models.layers import EPS
from fastgan.models.wct import EIGENVALUE_FLOOR

#: Features fused twice: a norm and two layers, at the most.
FUSING = {"terms": 3 * 128, "steps": 6}


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize(("layer", "size"), [("relu2_1", (9, 12)), ("relu3_1", (11, 14)), ("relu4_1", (23, 16))])
def test_any_size_comes_out_as_it_went_in(fusion: str, layer: str, size: tuple[int, int], rng: torch.Generator) -> None:
    made = network(fusion, layer)
    block = int(layer[4])
    assert made.layers == tuple(f"relu{index}_1" for index in range(1, block + 1)) and made.layer == layer
    assert made.stride == 2 ** (block - 1) and made.min_side == 2 * made.stride
    encoder = VGGEncoder(made.layers, "random")
    features = encoder(torch.rand(2, 3, *size, generator=rng) * 2 - 1)
    out = made(features, made.encode_style(features))
    assert out.shape == (2, 3, *size) and out.dtype == torch.float32 and out.abs().max() <= 1
    assert out.std() > LEVEL


def test_rows_that_pooling_drops_are_repeated(rng: torch.Generator) -> None:
    """Flat features of an odd size give a flat picture, to its last row and column.

    With moments held of others: a flat plane has no deviation, and by its own each norm would make what rounding leaves
    1 / sqrt(eps) = 316 times as large.
    """
    made = network("additive", "relu3_1").double()
    sizes = dict(zip(made.layers, ((15, 23), (7, 11), (3, 5)), strict=True))
    code = torch.ones(1, 256 + 64, 32, 32).double()
    others = {name: torch.rand(1, CHANNELS[name], *cells, generator=rng).double() * 4 for name, cells in sizes.items()}
    set_recording(made, True)
    made(others, code)
    set_recording(made, False)
    out = made({name: torch.full_like(value, 2.0) for name, value in others.items()}, code)
    assert_close(out, out[..., :1, :1].expand(out.shape), steps=2 * sums(made, plane=1))


def test_deepest_layer(rng: torch.Generator) -> None:
    made = network(layer="relu5_1", width=2)
    out = made(random_features(made, (32, 33), rng), made.encode_style(styles(made, rng)))
    assert made.stride == 16 and out.shape == (2, 3, 32, 33)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_no_strength_is_the_content_whatever_the_style(fusion: str, rng: torch.Generator) -> None:
    made = network(fusion)
    features = random_features(made, (8, 10), rng)
    first, second = (made.encode_style(styles(made, rng, loud=loud)) for loud in (5, 20))
    for none in (0, 0.0, torch.zeros(2)):
        assert torch.equal(made(features, first, none), made(features, second, none))
        for have, name, scale in zip(made.fuse(features, first, none), ("relu2_1", "relu1_1"), SCALES, strict=True):
            assert_close(have, features[name] / scale)
    assert (made(features, first) - made(features, second)).abs().mean() > LEVEL
    assert (made(features, first) - made(features, first, 0.0)).abs().mean() > LEVEL
    for one, other in zip(made.fuse(features, first), made.fuse(features, second), strict=True):
        assert (one - other).abs().mean() > rounding(**FUSING) * other.abs().max()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_strength_of_each_image(fusion: str, rng: torch.Generator) -> None:
    made = network(fusion)
    features = random_features(made, (8, 10), rng, n=3)
    code = made.encode_style(styles(made, rng, n=3))
    strengths = torch.tensor([0.0, 0.4, 1.0])
    for codes in (code, code[:1]):
        together = made(features, codes, strengths)
        fused = made.fuse(features, codes, strengths)
        for index, strength in enumerate(strengths.tolist()):
            one = {name: value[index : index + 1] for name, value in features.items()}
            own = codes[min(index, len(codes) - 1)][None]
            assert_close(together[index : index + 1], made(one, own, strength), steps=2 * sums(made, plane=8 * 10))
            for have, want in zip(fused, made.fuse(one, own, strength), strict=True):
                assert_close(have[index : index + 1], want, **FUSING)


def resized(code: Tensor, height: int, width: int) -> Tensor:
    """Bilinear with cell centers at (i + 1/2) / n, edges held, written out."""
    out = code
    for axis, size in ((2, height), (3, width)):
        old = out.shape[axis]
        place = ((torch.arange(size, dtype=torch.float64) + 0.5) * old / size - 0.5).clamp(0, old - 1)
        low = place.floor().long()
        high = (low + 1).clamp_max(old - 1)
        share = (place - low).view([-1 if index == axis else 1 for index in range(4)])
        out = out.index_select(axis, low) * (1 - share) + out.index_select(axis, high) * share
    return out


@pytest.mark.parametrize("fusion", ["additive", "convex", "adain"])
def test_fused_features_are_the_formulas(fusion: str, rng: torch.Generator) -> None:
    """SPEC S6, in the word ``strength``, at both layers: additive alpha = strength, convex alpha = 1 - strength.

    A deviation is that of the features over their scale, with the eps of the norms.
    """
    a, made = 0.3, network(fusion)
    content, style = random_features(made, (16, 22), rng), styles(made, rng)
    fused = made.fuse(content, made.encode_style(style), a)
    for have, name, scale in zip(fused, ("relu2_1", "relu1_1"), SCALES, strict=True):
        f_c, f_s = content[name].double() / scale, style[name].double() / scale
        if fusion == "adain":
            var_c, mean_c = torch.var_mean(f_c, (2, 3), correction=0, keepdim=True)
            var_s, mean_s = torch.var_mean(f_s, (2, 3), correction=0, keepdim=True)
            std_c, std_s = (var_c + EPS).sqrt(), (var_s + EPS).sqrt()
            want = (1 - a) * f_c + a * (std_s * (f_c - mean_c) / std_c + mean_s)
        else:
            placed = resized(F.adaptive_avg_pool2d(f_s, 32), *f_c.shape[2:])
            want = f_c + a * placed if fusion == "additive" else (1 - a) * f_c + a * placed
        assert have.dtype == torch.float32
        # The style's moments, twice; the content's; the sum: of 18 x 22 cells at the most.
        assert_close(have, want, terms=18 * 22, steps=4)


def test_wct_gives_the_moments_of_the_style(rng: torch.Generator) -> None:
    """At each layer down to the deepest: the mean, and the covariance but for what the floors add to both."""
    made = network("wct", "relu3_1").double()
    assert made.fused_layers == ("relu3_1", "relu1_1", "relu2_1")
    content = {name: value.double() for name, value in random_features(made, (96, 96), rng, n=1).items()}
    style = {name: value.double() for name, value in styles(made, rng, n=1, side=24).items()}
    code = made.encode_style(style)
    assert code.shape == (1, 256 + 64 + 128, 1, 1 + 256) and code.dtype == torch.float32
    scales = (*SCALES, made.between_scales[0].item())
    for have, name, scale in zip(made.fuse(content, code.double()), made.fused_layers, scales, strict=True):
        planes, want = have.flatten(2)[0], style[name].flatten(2)[0] / scale
        assert_close(planes.mean(1), want.mean(1), terms=want.shape[1], dtype=torch.float32)
        moved, target = planes.cov(correction=0), want.cov(correction=0)
        assert (moved - target).norm() < 2 * EIGENVALUE_FLOOR * target.norm()
        assert (content[name].flatten(2)[0].cov(correction=0) / scale**2 - target).norm() > 0.2 * target.norm()


def test_detail_of_the_surface_fades_with_strength(rng: torch.Generator) -> None:
    """At full strength the fused relu1_1 comes in as cells of the deepest layer: noise within them is not seen."""
    made = network("wct", "relu2_1")
    seen: list[Tensor] = []
    made.to_rgb.register_forward_pre_hook(lambda _, x: seen.append(x[0][:, -64:]))
    features = random_features(made, (8, 10), rng)
    code = made.encode_style(styles(made, rng))
    for strength in (0.0, 1.0):
        made(features, code, strength)
        surface = made.fuse(features, code, strength)[1]
        if strength:
            surface = F.interpolate(F.avg_pool2d(surface, 2), scale_factor=2, mode="bilinear", align_corners=False)
        assert_close(seen[-1], surface, terms=4, steps=4)


def test_mlp_is_two_layers_on_content_and_moments(rng: torch.Generator) -> None:
    made = network("mlp").double()
    content = {name: value.double() for name, value in random_features(made, (8, 10), rng).items()}
    style = {name: value.double() for name, value in styles(made, rng).items()}
    fused = made.fuse(content, made.encode_style(style).double(), 0.6)
    parts = zip(fused, (made.fusion, made.surface), ("relu2_1", "relu1_1"), SCALES, strict=True)
    for have, fusion, name, scale in parts:
        f_c, f_s = content[name] / scale, style[name] / scale
        normed = (f_c - f_c.mean((2, 3), keepdim=True)) / (f_c.var((2, 3), correction=0, keepdim=True) + EPS).sqrt()
        mean, std = f_s.mean((2, 3)), (f_s.var((2, 3), correction=0) + EPS).sqrt()
        first = torch.cat([fusion.from_content.weight, fusion.from_style.weight], 1)[:, :, 0, 0]
        assert first.shape == (CHANNELS[name], 3 * CHANNELS[name])
        moments = torch.cat([mean, std], 1)[:, None, None].expand(-1, *f_c.shape[2:], -1)
        cells = torch.cat([normed.movedim(1, 3), moments], 3)
        biases = [fusion.get_parameter(f"{part}.bias") for part in ("from_content", "to_change")]
        change = (cells @ first.T + biases[0]).relu() @ fusion.to_change.weight[:, :, 0, 0].T
        want = f_c + 0.6 * (change + biases[1]).movedim(3, 1)
        # The code is float32: a mean and a deviation of 18 x 22 cells at the most. All else is float64.
        assert_close(have, want, terms=18 * 22, steps=2, dtype=torch.float32)


@pytest.mark.parametrize("fusion", ["adain", "mlp"])
def test_a_code_has_the_moments_of_its_style(fusion: str, rng: torch.Generator) -> None:
    made = network(fusion)
    style = styles(made, rng)
    for features in style.values():
        features[0, 3] = 0  # a dead channel, as VGG's are
    rounded = {name: value.bfloat16() for name, value in style.items()}
    code = made.encode_style(rounded)
    assert code.shape == (2, 128 + 64, 1, 2) and code.dtype == torch.float32
    for have, name in zip(code.double().split((128, 64), 1), ("relu2_1", "relu1_1"), strict=True):
        exact = rounded[name].double()
        # Both moments are rounded as they are taken, and once more in the code.
        bound = {"terms": 18 * 22, "steps": 3, "dtype": torch.float32}
        assert_close(have.mean((2, 3)), exact.mean((2, 3)), **bound)
        want = exact.var((2, 3), correction=0).clamp_min(1e-12).sqrt()  # a dead channel has a root with a gradient
        assert_close(have.std((2, 3), correction=0), want, **bound)
    given = [value.requires_grad_() for value in style.values()]
    for gradient in torch.autograd.grad(made.encode_style(style).square().sum(), given):
        assert gradient.isfinite().all() and gradient.abs().max() > 0
    content = random_features(made, (8, 10), rng)
    for have, fusion_, name, scale in zip(
        made.fuse(content, code), (made.fusion, made.surface), ("relu2_1", "relu1_1"), SCALES, strict=True
    ):
        want = fusion_(content[name] / scale, rounded[name].float() / scale, 1.0)
        # Twice: the style's moments and the content's, and for mlp two layers; the code's moments once more.
        assert_close(have, want, terms=18 * 22, steps=9)


@pytest.mark.parametrize("side", [9, 32, 70])
def test_codes_of_places_stack(side: int, rng: torch.Generator) -> None:
    for fusion in ("additive", "convex"):
        given = {name: value.double() for name, value in styles(network(fusion), rng, side=side).items()}
        code = network(fusion).encode_style(given)
        assert code.shape == (2, 128 + 64, 32, 32) and code.dtype == torch.float32
    rows = {
        "relu2_1": torch.arange(64.0).view(1, 1, 64, 1).expand(1, 128, 64, 64),
        "relu1_1": torch.arange(128.0).view(1, 1, 128, 1).expand(1, 64, 128, 128),
    }
    code = network("convex").encode_style(rows)[0, :, :, 5]
    # Sums of whole numbers over powers of two: no mean is rounded.
    assert torch.equal(code[:128], (torch.arange(32) * 2 + 0.5).expand(128, -1))
    assert torch.equal(code[128:], (torch.arange(32) * 4 + 1.5).expand(64, -1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_everything_learns_at_full_strength(fusion: str, dtype: torch.dtype, rng: torch.Generator) -> None:
    made = network(fusion, "relu3_1", depth=2).to(dtype)
    given = random_features(made, (16, 20), rng)
    features = {name: value.to(dtype).requires_grad_() for name, value in given.items()}
    code = made.encode_style(styles(made, rng)).to(dtype).requires_grad_()
    strength = torch.tensor([0.5, 1.0], dtype=dtype, requires_grad=True)
    made(features, code, strength).add(0.5).square().mean().backward()
    everything = {**dict(made.named_parameters()), **features, "code": code, "strength": strength}
    # What rounding leaves in float64 where terms cancel, forward and back, of the largest gradient of the network.
    largest = max(p.grad.abs().max().item() for p in made.parameters() if p.grad is not None)
    least = rounding(steps=2 * sums(made, plane=16 * 20), dtype=torch.float64) * largest
    silent = {name for name, value in everything.items() if value.grad is None or value.grad.abs().max() < least}
    assert not silent
    assert all(value.grad.isfinite().all() for value in everything.values() if value.grad is not None)
    assert code.grad is not None and code.grad[:, :256].abs().max() > least < code.grad[:, 256:].abs().max()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_layouts_and_precisions_agree(fusion: str, rng: torch.Generator) -> None:
    made = network(fusion)
    features = random_features(made, (8, 10), rng)
    code = made.encode_style(styles(made, rng))
    want = made(features, code)
    halves = {name: value.bfloat16() for name, value in features.items()}
    with torch.autocast("cpu", torch.bfloat16):
        rounded = made(halves, code)
    assert rounded.dtype == torch.float32
    assert_close_in_bfloat16(rounded, want, made)
    # The features are rounded, and nothing else. They come in three ways: fused, as structure and as the surface.
    error = (made(halves, code) - want).square().mean().sqrt()
    assert error <= 3 * unit(torch.bfloat16) * want.square().mean().sqrt()
    made.to(memory_format=torch.channels_last)
    turned = {name: value.contiguous(memory_format=torch.channels_last) for name, value in features.items()}
    assert_close(made(turned, code), want, steps=2 * sums(made, plane=8 * 10))
    double = made.double()({name: value.double() for name, value in features.items()}, code)
    assert double.dtype == torch.float64
    assert_close(double, want, steps=sums(made, plane=8 * 10))


def test_it_fuses_by_the_op(monkeypatch: pytest.MonkeyPatch, rng: torch.Generator) -> None:
    calls: list[tuple[str, int]] = []
    real = ops.fuse

    def spy(*args: Tensor, **options: Any) -> Tensor:
        calls.append((options["mode"], args[0].shape[1]))
        return real(*args, **options)

    monkeypatch.setattr(ops, "fuse", spy)
    for fusion in FUSIONS:
        made = network(fusion)
        made(random_features(made, (8, 10), rng), made.encode_style(styles(made, rng)))
    assert calls == [(mode, channels) for mode in ("adain", "convex", "additive") for channels in (128, 64)]


# --- what is refused


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"width": 0}, "at least 1"),
        ({"depth": 0}, "at least 1"),
        ({"fusion": "sum"}, "fusion must be one of 'adain', 'convex', 'additive', 'mlp', 'wct', got 'sum'"),
        ({"layer": "relu1_1"}, "layer must be one of 'relu2_1', .*, got 'relu1_1'"),
        ({"layer": "relu3_2"}, "layer must be one of"),
    ],
)
def test_bad_options(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        FusionGenerator(**options)


def test_bad_arguments(rng: torch.Generator) -> None:
    made = network("additive")
    features = random_features(made, (8, 10), rng)
    code = made.encode_style(styles(made, rng))
    deep, surface, across = features["relu2_1"], features["relu1_1"], slice(0, 10)
    for change, says in (
        ({"features": {"relu2_1": deep}}, "features must have relu1_1, relu2_1; missing: relu1_1"),
        (
            {"features": {**features, "relu2_1": surface}},
            r"features of relu2_1 must be \(N, 128, h, w\), got \(2, 64, 8, 10\)",
        ),
        ({"features": {**features, "relu1_1": deep}}, r"features of relu1_1 must be \(N, 64, h, w\)"),
        ({"features": {**features, "relu1_1": surface[0]}}, r"features of relu1_1 must be \(N, 64, h, w\)"),
        ({"features": {**features, "relu2_1": deep[..., :1]}}, "at least 2 cells a side at relu2_1, got 4 x 1"),
        ({"code": code[:, :128]}, r"code must be \(2 or 1, 192, h, w\) for these features, got \(2, 128, 32, 32\)"),
        ({"code": code.repeat(2, 1, 1, 1)}, r"code must be \(2 or 1, 192, h, w\)"),
        ({"code": code[0]}, r"code must be \(2 or 1, 192, h, w\)"),
        ({"strength": torch.ones(3)}, r"strength must be a number or \(2,\), got shape \(3,\)"),
        ({"strength": torch.ones(2, 1, 1, 1)}, "strength must be a number"),
        ({"window": (slice(0, 6), across, 18, 10)}, "window must cut 4 x 5 cells"),
        ({"window": (slice(14, 22), across, 18, 10)}, "window must cut 4 x 5 cells"),
        ({"window": (slice(0, 9), across, 18, 10)}, "window must cut 8 x 10 cells"),  # wrong at relu1_1 alone
    ):
        with pytest.raises(ValueError, match=says):
            made(**{"features": features, "code": code, **change})
    for given, says in (
        ({"relu2_1": deep}, r"features of relu1_1 must be \(N, 64, h, w\), got nothing"),
        ({"relu1_1": surface}, r"features of relu2_1 must be \(N, 128, h, w\), got nothing"),
        ({"relu2_1": surface, "relu1_1": surface}, r"features of relu2_1 must be \(N, 128, h, w\), got \(2, 64"),
    ):
        with pytest.raises(ValueError, match=says):
            made.encode_style(given)
