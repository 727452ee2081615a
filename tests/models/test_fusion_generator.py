"""Many styles in one network (SPEC S5 to S7): strength, codes, tiles."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastgan import ops
from fastgan.models import FusionGenerator, VGGEncoder
from fastgan.models.layers import HoldsMoments

FUSIONS = ["adain", "convex", "additive", "mlp"]
CHANNELS = {"relu1_1": 64, "relu2_1": 128, "relu3_1": 256, "relu4_1": 512, "relu5_1": 512}


def network(fusion: str = "adain", layer: str = "relu2_1", width: int = 4, depth: int = 1) -> FusionGenerator:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = FusionGenerator(width, depth, fusion=fusion, layer=layer)
        for name, parameter in made.named_parameters():
            if name.endswith("predict.weight"):  # 0 at first: no style would come in
                nn.init.normal_(parameter, 0.0, 0.3 / parameter.shape[1] ** 0.5)
            elif name.endswith("bias") and "predict" not in name:
                nn.init.normal_(parameter, 0.0, 0.1)
    made.scale.fill_(1.7)
    return made


def random_features(
    made: FusionGenerator, size: tuple[int, int], rng: torch.Generator, n: int = 2
) -> dict[str, Tensor]:
    sizes = [(size[0] // 2**k, size[1] // 2**k) for k in range(len(made.layers))]
    return {
        name: torch.randn(n, CHANNELS[name], *cells, generator=rng).relu() * 3
        for name, cells in zip(made.layers, sizes, strict=True)
    }


def styles(made: FusionGenerator, rng: torch.Generator, n: int = 2, side: int = 9) -> Tensor:
    return torch.randn(n, CHANNELS[made.layer], side, side + 2, generator=rng).relu() * 5


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize(("layer", "size"), [("relu2_1", (9, 12)), ("relu3_1", (11, 14)), ("relu4_1", (23, 16))])
def test_any_size_comes_out_as_it_went_in(fusion: str, layer: str, size: tuple[int, int], rng: torch.Generator) -> None:
    made = network(fusion, layer)
    block = int(layer[4])
    assert made.layers == tuple(f"relu{index}_1" for index in range(1, block + 1)) and made.layer == layer
    assert made.stride == 2 ** (block - 1) and made.min_side == 2 * made.stride
    encoder = VGGEncoder(made.layers, "random")
    features = encoder(torch.rand(2, 3, *size, generator=rng) * 2 - 1)
    out = made(features, made.encode_style(features[layer]))
    assert out.shape == (2, 3, *size) and out.dtype == torch.float32 and out.abs().max() <= 1
    assert out.std() > 0.01


def test_rows_that_pooling_drops_are_repeated() -> None:
    """Flat features of an odd size give a flat picture, to its last row and column."""
    made = network("additive", "relu3_1")
    sizes = zip(made.layers, ((15, 23), (7, 11), (3, 5)), strict=True)
    features = {name: torch.full((1, CHANNELS[name], *cells), 2.0) for name, cells in sizes}
    out = made(features, torch.ones(1, 256, 32, 32))
    torch.testing.assert_close(out, out[..., :1, :1].expand(out.shape), rtol=0, atol=1e-5)


def test_deepest_layer(rng: torch.Generator) -> None:
    made = network(layer="relu5_1", width=2)
    out = made(random_features(made, (32, 33), rng), made.encode_style(styles(made, rng)))
    assert made.stride == 16 and out.shape == (2, 3, 32, 33)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_no_strength_is_the_content_whatever_the_style(fusion: str, rng: torch.Generator) -> None:
    made = network(fusion)
    features = random_features(made, (8, 10), rng)
    first, second = (made.encode_style(styles(made, rng) * factor) for factor in (1, 4))
    for none in (0, 0.0, torch.zeros(2)):
        assert torch.equal(made(features, first, none), made(features, second, none))
        torch.testing.assert_close(made.fuse(features["relu2_1"], first, none), features["relu2_1"] / 1.7)
    assert (made(features, first) - made(features, second)).abs().mean() > 1e-2
    assert (made(features, first) - made(features, first, 0.0)).abs().mean() > 1e-2


@pytest.mark.parametrize("fusion", FUSIONS)
def test_strength_of_each_image(fusion: str, rng: torch.Generator) -> None:
    made = network(fusion)
    features = random_features(made, (8, 10), rng, n=3)
    code = made.encode_style(styles(made, rng, n=3))
    strengths = torch.tensor([0.0, 0.4, 1.0])
    for codes in (code, code[:1]):
        together = made(features, codes, strengths)
        for index, strength in enumerate(strengths.tolist()):
            one = {name: value[index : index + 1] for name, value in features.items()}
            single = made(one, codes[min(index, len(codes) - 1)][None], strength)
            torch.testing.assert_close(together[index : index + 1], single, rtol=0, atol=1e-5)


def resized(code: Tensor, height: int, width: int) -> Tensor:
    """Bilinear with cell centres at (i + 1/2) / n, edges held, written out."""
    out = code
    for axis, size in ((2, height), (3, width)):
        old = out.shape[axis]
        place = ((torch.arange(size, dtype=torch.float64) + 0.5) * old / size - 0.5).clamp(0, old - 1)
        low = place.floor().long()
        high = (low + 1).clamp_max(old - 1)
        share = (place - low).view([-1 if index == axis else 1 for index in range(4)])
        out = out.index_select(axis, low) * (1 - share) + out.index_select(axis, high) * share
    return out


def test_fused_features_are_the_formulas(rng: torch.Generator) -> None:
    """SPEC S6, in the word ``strength``: additive alpha = strength, convex alpha = 1 - strength."""
    a = 0.3
    for fusion in ("additive", "convex", "adain"):
        made = network(fusion)
        content = random_features(made, (16, 22), rng)["relu2_1"]
        style = styles(made, rng)
        have = made.fuse(content, made.encode_style(style), a).double()
        f_c, f_s = content.double(), style.double()
        if fusion == "adain":
            moments = [(x.mean((2, 3), keepdim=True), x.std((2, 3), correction=0, keepdim=True)) for x in (f_c, f_s)]
            (mean_c, std_c), (mean_s, std_s) = moments
            want = (1 - a) * f_c + a * (std_s * (f_c - mean_c) / std_c + mean_s)
        else:
            placed = resized(F.adaptive_avg_pool2d(f_s, 32), 8, 11)
            want = f_c + a * placed if fusion == "additive" else (1 - a) * f_c + a * placed
        torch.testing.assert_close(have, want / 1.7, rtol=1e-4, atol=1e-4)


def test_mlp_is_two_layers_on_content_and_moments(rng: torch.Generator) -> None:
    made = network("mlp").double()
    content = random_features(made, (8, 10), rng)["relu2_1"].double()
    style = styles(made, rng).double()
    have = made.fuse(content, made.encode_style(style).double(), 0.6)
    fusion, f_c, f_s = made.fusion, content / 1.7, style / 1.7
    normed = (f_c - f_c.mean((2, 3), keepdim=True)) / (f_c.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    mean, std = f_s.mean((2, 3)), f_s.std((2, 3), correction=0)
    first = torch.cat([fusion.from_content.weight, fusion.from_style.weight], 1)[:, :, 0, 0]
    assert first.shape == (128, 3 * 128)
    cells = torch.cat([normed.movedim(1, 3), torch.cat([mean, std], 1)[:, None, None].expand(-1, 4, 5, -1)], 3)
    change = (cells @ first.T + fusion.from_content.bias).relu() @ fusion.to_change.weight[:, :, 0, 0].T
    want = f_c + 0.6 * (change + fusion.to_change.bias).movedim(3, 1)
    torch.testing.assert_close(have, want, rtol=1e-4, atol=1e-4)  # the code is float32


@pytest.mark.parametrize("fusion", ["adain", "mlp"])
def test_a_code_has_the_moments_of_its_style(fusion: str, rng: torch.Generator) -> None:
    made = network(fusion)
    style = styles(made, rng)
    style[0, 3] = 0  # a dead channel, as VGG's are
    code = made.encode_style(style.bfloat16())
    assert code.shape == (2, 128, 1, 2) and code.dtype == torch.float32
    exact = style.bfloat16().double()
    torch.testing.assert_close(code.double().mean((2, 3)), exact.mean((2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        code.double().std((2, 3), correction=0), exact.std((2, 3), correction=0), rtol=1e-4, atol=1e-5
    )
    style.requires_grad_()
    (gradient,) = torch.autograd.grad(made.encode_style(style).square().sum(), style)
    assert gradient.isfinite().all()
    content = random_features(made, (8, 10), rng)["relu2_1"]
    torch.testing.assert_close(made.fuse(content, code), made.fuse(content, style.bfloat16()), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("side", [9, 32, 70])
def test_codes_of_places_stack(side: int, rng: torch.Generator) -> None:
    for fusion in ("additive", "convex"):
        code = network(fusion).encode_style(styles(network(fusion), rng, side=side).double())
        assert code.shape == (2, 128, 32, 32) and code.dtype == torch.float32
    style = torch.arange(64.0).view(1, 1, 64, 1).expand(1, 128, 64, 64)
    torch.testing.assert_close(network("convex").encode_style(style)[0, 0, :, 0], torch.arange(32) * 2 + 0.5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_everything_learns_at_full_strength(fusion: str, rng: torch.Generator) -> None:
    made = network(fusion, "relu3_1", depth=2)
    features = {name: value.requires_grad_() for name, value in random_features(made, (16, 20), rng).items()}
    code = made.encode_style(styles(made, rng)).requires_grad_()
    strength = torch.tensor([0.5, 1.0], requires_grad=True)
    made(features, code, strength).add(0.5).square().mean().backward()
    everything = {**dict(made.named_parameters()), **features, "code": code, "strength": strength}
    silent = {name for name, value in everything.items() if value.grad is None or value.grad.abs().max() < 1e-9}
    assert not silent
    assert all(value.grad.isfinite().all() for value in everything.values() if value.grad is not None)


def test_style_comes_in_by_the_moments_alone_and_structure_by_the_skips(rng: torch.Generator) -> None:
    """Twice the fused features are another picture; twice the skipped ones are the same structure."""
    made = network(width=8)
    features = random_features(made, (16, 20), rng)
    code = made.encode_style(styles(made, rng))
    want = made(features, code)
    assert (made(features, code * 2) - want).abs().mean() > 0.05
    louder = {**features, "relu1_1": features["relu1_1"] * 2 + 5}
    torch.testing.assert_close(made(louder, code), want, rtol=0, atol=1e-3)
    other = {**features, "relu1_1": features["relu1_1"].flip(3)}
    assert (made(other, code) - want).abs().mean() > 0.01


def test_calibration(rng: torch.Generator) -> None:
    """Features of any loudness start the decoder alike; the scale is saved."""
    outputs = []
    for loudness in (1, 200):
        made = network()
        features = {
            name: value * loudness for name, value in random_features(made, (8, 10), rng.manual_seed(5)).items()
        }
        made.calibrate(features)
        assert abs(made.scale / features["relu2_1"].double().square().mean().sqrt() - 1) < 1e-5
        code = made.encode_style(styles(made, rng.manual_seed(6)) * loudness)
        outputs.append(made(features, code))
        assert abs(made.fuse(features["relu2_1"], code, 0.0).square().mean() - 1) < 1e-3
        twin = FusionGenerator(**made.config)
        twin.load_state_dict(made.state_dict())
        assert torch.equal(twin(features, code), outputs[-1])
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-3)
    made.calibrate({"relu2_1": torch.zeros(1, 128, 4, 4)})
    assert made.scale == 1


@pytest.mark.parametrize("fusion", FUSIONS)
def test_layouts_and_precisions_agree(fusion: str, rng: torch.Generator) -> None:
    made = network(fusion)
    features = random_features(made, (8, 10), rng)
    code = made.encode_style(styles(made, rng))
    want = made(features, code)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = made({name: value.bfloat16() for name, value in features.items()}, code)
    assert rounded.dtype == torch.float32 and (rounded - want).abs().max() < 0.1
    torch.testing.assert_close(made({k: v.bfloat16() for k, v in features.items()}, code), want, rtol=0, atol=0.1)
    made.to(memory_format=torch.channels_last)
    turned = {name: value.contiguous(memory_format=torch.channels_last) for name, value in features.items()}
    torch.testing.assert_close(made(turned, code), want, rtol=1e-4, atol=1e-5)
    double = made.double()({name: value.double() for name, value in features.items()}, code)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double, want.double(), rtol=1e-4, atol=1e-5)


# --- tiles


def set_recording(made: nn.Module, on: bool) -> None:
    for module in made.modules():
        if isinstance(module, HoldsMoments):
            module.recording = on


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("layer", ["relu2_1", "relu3_1"])
def test_tiles_meet_without_seams(fusion: str, layer: str, rng: torch.Generator) -> None:
    """With moments held, tiles with a border of ``reach`` give what the whole gives, its odd last pixels too."""
    made = network(fusion, layer)
    encoder = VGGEncoder(made.layers, "random")
    height, width = (67, 95) if layer == "relu2_1" else (99, 131)
    x = F.interpolate(torch.rand(1, 3, 9, 13, generator=rng) * 2 - 1, (height, width), mode="bicubic")
    x = (x + torch.randn(x.shape, generator=rng) * 0.1).clamp(-1, 1)
    code = made.encode_style(styles(made, rng, n=1) * 0.3)
    stride = made.stride
    border = -(-made.reach // stride) * stride
    cells = (height // stride, width // stride)
    with torch.inference_mode():
        set_recording(made, True)
        made(encoder(F.interpolate(x, (40, 50), mode="bilinear")), code)
        set_recording(made, False)
        features = encoder(x)
        want = made(features, code, 0.8, window=(slice(None), slice(None), *cells))
        torch.testing.assert_close(made(features, code, 0.8), want, rtol=0, atol=1e-5)
        out = torch.full_like(x, torch.nan)
        core = 16
        for top in range(0, height, core):
            for left in range(0, width, core):
                rows = slice(max(0, top - border), min(height, top + core + border))
                columns = slice(max(0, left - border), min(width, left + core + border))
                window = (
                    slice(rows.start // stride, rows.stop // stride),
                    slice(columns.start // stride, columns.stop // stride),
                    *cells,
                )
                done = made(encoder(x[..., rows, columns]), code, 0.8, window=window)
                bottom, right = min(height, top + core), min(width, left + core)
                out[..., top:bottom, left:right] = done[
                    ..., top - rows.start : bottom - rows.start, left - columns.start : right - columns.start
                ]
    torch.testing.assert_close(out, want, rtol=0, atol=2e-5)


@pytest.mark.parametrize("fusion", ["adain", "mlp"])
def test_held_moments_are_used(fusion: str, rng: torch.Generator) -> None:
    made = network(fusion)
    features = random_features(made, (8, 10), rng)
    code = made.encode_style(styles(made, rng))
    want = made(features, code, 0.7)
    set_recording(made, True)
    torch.testing.assert_close(made(features, code, 0.7), want)
    set_recording(made, False)
    torch.testing.assert_close(made(features, code, 0.7), want, rtol=0, atol=1e-4)
    louder = features["relu2_1"] * 2 + 1
    held = made.fuse(louder, code)
    made.fusion.frozen = None
    if fusion == "mlp":
        made.fusion.norm.frozen = None
    assert (held - made.fuse(louder, code)).abs().mean() > 0.05
    torch.testing.assert_close(made(features, code, torch.tensor([0.7, 0.7])), want, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("layer", "depth"), [("relu2_1", 1), ("relu2_1", 3), ("relu3_1", 1)])
def test_reach(layer: str, depth: int) -> None:
    """No output pixel sees further, and one of a period of the strides sees as far; the repeated last ones do not."""
    made = network("convex", layer, width=1, depth=depth).double()
    encoder = VGGEncoder(made.layers, "random").double()
    for module in (*made.modules(), *encoder.modules()):
        if isinstance(module, nn.Conv2d):
            nn.init.uniform_(module.weight, 0.5, 1)
            module.weight.data /= module.weight[0].numel()
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in made.modules():
        if isinstance(module, HoldsMoments):
            plane = torch.ones(1, made.channels if module is made.moments else 1, 1, 1).double()
            module.frozen = (0 * plane, plane)
    encoder.scale.fill_(0.1)
    encoder.shift.fill_(1.0)
    code = torch.zeros(1, made.channels, 32, 32).double()

    def farthest(size: int, places: list[int]) -> int:
        """Max-pooling has one gradient a window, of whichever is largest: raise row after row instead."""
        rows = [row for row in range(size) if abs(row - places[0]) < made.reach + 9]
        x = torch.zeros(1 + len(rows), 3, size, 2 * made.stride, dtype=torch.float64)
        for index, row in enumerate(rows):
            x[index + 1, :, row] = 1
        out = torch.cat([made(encoder(part), code, 0.0)[:, 0, places, 1] for part in x.split(16)])
        moved = [(row, hit) for row, hits in zip(rows, out[1:] != out[0], strict=True) for hit in hits.nonzero()]
        return max(abs(row - places[int(hit)]) for row, hit in moved)

    side = (2 * made.reach + 24) // made.stride * made.stride
    middle = side // 2 // made.stride * made.stride
    assert farthest(side, [middle + offset for offset in range(made.stride)]) == made.reach
    last = side + made.stride - 2
    assert farthest(last + 1, [last]) <= made.reach


# --- what is refused


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"width": 0}, "at least 1"),
        ({"depth": 0}, "at least 1"),
        ({"fusion": "sum"}, "fusion must be one of 'adain', 'convex', 'additive', 'mlp', got 'sum'"),
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
    whole = slice(None)
    for change, says in (
        ({"features": {"relu2_1": features["relu2_1"]}}, "features must have relu1_1, relu2_1; missing: relu1_1"),
        ({"features": {**features, "relu2_1": features["relu1_1"]}}, r"content must be \(N, 128, h, w\) of relu2_1"),
        ({"features": {**features, "relu2_1": features["relu2_1"][..., :1]}}, "at least 2 cells a side"),
        ({"code": code[:, :64]}, r"code must be \(N, 128, h, w\)"),
        ({"code": code.repeat(2, 1, 1, 1)}, "code must be of 1 or 2 styles for these features, got 4"),
        ({"strength": torch.ones(3)}, r"strength must be a number or \(2,\), got shape \(3,\)"),
        ({"strength": torch.ones(2, 1, 1, 1)}, "strength must be a number"),
        ({"window": (slice(0, 3), whole, 9, 5)}, "window must cut 4 x 5 cells"),
        ({"window": (slice(7, 11), whole, 9, 5)}, "window must cut 4 x 5 cells"),
    ):
        with pytest.raises(ValueError, match=says):
            made(**{"features": features, "code": code, **change})
    with pytest.raises(ValueError, match=r"features must be \(N, 128, h, w\) of relu2_1"):
        made.encode_style(features["relu1_1"])


def test_it_fuses_by_the_op(monkeypatch: pytest.MonkeyPatch, rng: torch.Generator) -> None:
    calls: list[str] = []
    real = ops.fuse

    def spy(*args: Tensor, **options: Any) -> Tensor:
        calls.append(options["mode"])
        return real(*args, **options)

    monkeypatch.setattr(ops, "fuse", spy)
    for fusion in FUSIONS:
        made = network(fusion)
        made(random_features(made, (8, 10), rng), made.encode_style(styles(made, rng)))
    assert calls == ["adain", "convex", "additive"]
