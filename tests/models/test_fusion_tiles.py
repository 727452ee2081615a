"""Parts of a picture in a network that fuses styles: held moments, windows, how far its pixels see."""

import pytest
import torch
import torch.nn.functional as F
from helpers.bounds import assert_close, rounding
from helpers.networks import sums
from helpers.tiny_fusion import FUSIONS, network, random_features, set_recording, styles
from torch import Tensor, nn

from fastgan.models import FusionGenerator, VGGEncoder
from fastgan.models.layers import MomentRecorder


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize(
    ("layer", "dtype"), [("relu2_1", torch.float32), ("relu3_1", torch.float32), ("relu2_1", torch.float64)]
)
def test_tiles_meet_without_seams(fusion: str, layer: str, dtype: torch.dtype, rng: torch.Generator) -> None:
    """With fixed moments, tiles with a border of ``receptive_radius`` equal the whole picture, odd last pixels too.

    A border that is too narrow shows in float64, far beyond rounding; float32 is for the kernels.
    """
    made = network(fusion, layer).to(dtype)
    encoder = VGGEncoder(made.layers, "random").to(dtype)
    encoder.dtype = dtype
    height, width = (67, 95) if layer == "relu2_1" else (99, 131)
    x = F.interpolate(torch.rand(1, 3, 9, 13, generator=rng) * 2 - 1, (height, width), mode="bicubic")
    x = (x + torch.randn(x.shape, generator=rng) * 0.1).clamp(-1, 1)
    code = made.encode_style(styles(made, rng, n=1, loud=1.5)).to(dtype)
    border = -(-made.receptive_radius // made.stride) * made.stride
    with torch.inference_mode():
        set_recording(made, True)
        made(encoder(F.interpolate(x, (40, 50), mode="bilinear")), code)
        set_recording(made, False)
        features = encoder(x)
        want = made(features, code, 0.8, window=(slice(0, height), slice(0, width), height, width))
        assert_close(made(features, code, 0.8), want, steps=2 * sums(made, plane=1))
        out = torch.full_like(want, torch.nan)
        core = 16 if dtype == torch.float32 else 32
        for top in range(0, height, core):
            for left in range(0, width, core):
                rows = slice(max(0, top - border), min(height, top + core + border))
                columns = slice(max(0, left - border), min(width, left + core + border))
                done = made(encoder(x[..., rows, columns]), code, 0.8, window=(rows, columns, height, width))
                bottom, right = min(height, top + core), min(width, left + core)
                out[..., top:bottom, left:right] = done[
                    ..., top - rows.start : bottom - rows.start, left - columns.start : right - columns.start
                ]
    assert_close(out, want, steps=2 * sums(encoder, made, plane=1))


@pytest.mark.parametrize("fusion", ["additive", "convex"])
def test_a_window_is_cut_from_the_whole_style(fusion: str, rng: torch.Generator) -> None:
    made = network(fusion, "relu3_1")
    features = random_features(made, (35, 42), rng)
    code = made.encode_style(styles(made, rng))
    rows, columns = slice(12, 35), slice(8, 28)
    part = {
        name: value[..., rows.start // 2**k : rows.stop // 2**k, columns.start // 2**k : columns.stop // 2**k]
        for k, (name, value) in enumerate(features.items())
    }
    whole = made.fuse(features, code, 0.7)
    have = made.fuse(part, code, 0.7, (rows, columns, 35, 42))
    for one, want, stride in zip(have, whole, (4, 1), strict=True):
        cut = want[..., rows.start // stride : rows.stop // stride, columns.start // stride : columns.stop // stride]
        assert_close(one, cut)


def holders(made: FusionGenerator) -> dict[str, MomentRecorder]:
    return {name: module for name, module in made.named_modules() if isinstance(module, MomentRecorder)}


@pytest.mark.parametrize("fusion", FUSIONS)
def test_held_moments_are_used(fusion: str, rng: torch.Generator) -> None:
    """All that looks at a whole plane holds its moments, and each of them tells on another picture."""
    made = network(fusion)
    features = random_features(made, (8, 10), rng)
    code = made.encode_style(styles(made, rng))
    want = made(features, code, 0.7)
    set_recording(made, True)
    assert torch.equal(made(features, code, 0.7), want)
    set_recording(made, False)
    bound = {"steps": 2 * sums(made, plane=8 * 10)}
    assert_close(made(features, code, 0.7), want, **bound)
    assert_close(made(features, code, torch.tensor([0.7, 0.7])), want, **bound)
    norms = {"project.norm", "blocks.0.first.norm", "blocks.0.second.norm", "ups.0.norm", "moments"}
    two = {"fusion", "surface"}
    fusing = {"adain": two | {"norms.0"}, "mlp": {"fusion.norm", "surface.norm", "norms.0"}, "wct": two}
    held = {name: module for name, module in holders(made).items() if module.frozen is not None}
    assert set(held) == norms | fusing.get(fusion, {"norms.0"})
    louder = {name: value * 1.5 + 1 for name, value in features.items()}
    other = made(louder, code, 0.7)
    for name, module in held.items():
        kept, module.frozen = module.frozen, None
        assert (made(louder, code, 0.7) - other).abs().mean() > rounding(**bound) * other.abs().max(), name
        module.frozen = kept
    assert torch.equal(made(louder, code, 0.7), other)


@pytest.mark.parametrize("fusion", ["adain", "mlp", "wct"])
def test_moments_are_held_where_features_are_fused(fusion: str, rng: torch.Generator) -> None:
    made = network(fusion)
    features = random_features(made, (8, 10), rng)
    code = made.encode_style(styles(made, rng))
    set_recording(made, True)
    made(features, code)
    set_recording(made, False)
    louder = {name: value * 2 + 1 for name, value in features.items()}
    held = made.fuse(louder, code)
    for module in holders(made).values():
        module.frozen = None
    for with_, without in zip(held, made.fuse(louder, code), strict=True):
        # Fused twice: a norm and two layers, at the most.
        assert (with_ - without).abs().mean() > rounding(3 * 128, 6) * without.abs().max()


@pytest.mark.parametrize(("layer", "depth"), [("relu2_1", 1), ("relu2_1", 3), ("relu3_1", 1)])
def test_reach(layer: str, depth: int) -> None:
    """No output pixel sees further, and one of a period of the strides sees as far; the repeated last ones do not.

    Nothing cancels: all weights are positive, those on the fused relu1_1 too, which the last convolution sees at 1 px.
    """
    made = network("convex", layer, width=1, depth=depth).double()
    encoder = VGGEncoder(made.layers, "random").double()
    for module in (*made.modules(), *encoder.modules()):
        if isinstance(module, nn.Conv2d):
            nn.init.uniform_(module.weight, 0.5, 1)
            module.weight.data /= module.weight[0].numel()
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)
    for module in holders(made).values():
        plane = torch.ones(1, made.channels if module is made.moments else 1, 1, 1).double()
        module.frozen = (0 * plane, plane)
    encoder.scale.fill_(0.1)
    encoder.shift.fill_(1.0)
    code = torch.zeros(1, made.channels + 64, 32, 32).double()

    def hits(size: int, places: list[int]) -> list[tuple[int, int]]:
        """Rows, and which of the places each moves: max-pooling has one gradient a window, so raise row after row."""
        rows = [row for row in range(size) if abs(row - places[0]) < made.receptive_radius + 9]
        x = torch.zeros(1 + len(rows), 3, size, 2 * made.stride, dtype=torch.float64)
        for index, row in enumerate(rows):
            x[index + 1, :, row] = 1
        out: Tensor = torch.cat([made(encoder(part), code, 0.0)[:, 0, places, 1] for part in x.split(16)])
        return [(rows[int(i)], places[int(j)]) for i, j in (out[1:] != out[0]).nonzero()]

    side = (2 * made.receptive_radius + 24) // made.stride * made.stride
    middle = side // 2 // made.stride * made.stride
    period = [middle + offset for offset in range(made.stride)]
    assert max(abs(row - place) for row, place in hits(side, period)) == made.receptive_radius
    last = side + made.stride - 2
    assert max(abs(row - place) for row, place in hits(last + 1, [last])) <= made.receptive_radius
