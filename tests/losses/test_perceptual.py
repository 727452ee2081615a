"""Style and content losses against NumPy in float64."""

import numpy as np
import pytest
import torch
from helpers.bounds import approx, assert_close, rounding
from torch import Tensor

from fastgan import ops
from fastgan.losses import ContentLoss, StyleLoss, style_distance, style_grams
from fastgan.models import VGGEncoder

LAYERS = ("relu1_1", "relu2_1")


@pytest.fixture(scope="module")
def encoder() -> VGGEncoder:
    return VGGEncoder(LAYERS, "random")


def features_of(rng: torch.Generator, n: int = 3) -> dict[str, Tensor]:
    return {"relu1_1": torch.randn(n, 6, 9, 7, generator=rng), "relu2_1": 5 * torch.randn(n, 4, 5, 3, generator=rng)}


def numpy_gram(features: Tensor) -> np.ndarray:
    """F F^T / (H W) of (C, H, W)."""
    f = features.detach().double().numpy().reshape(features.shape[0], -1)
    return f @ f.T / f.shape[1]


def numpy_style_distance(result: dict[str, Tensor], style: dict[str, list[np.ndarray]], image: int) -> float:
    """DESIGN: per layer |G(result) - G(style)|^2 / |G(style)|^2 (Frobenius), averaged over the layers."""
    ratios = []
    for layer, features in result.items():
        target = np.mean(style[layer], 0)
        ratios.append(np.sum((numpy_gram(features[image]) - target) ** 2) / np.sum(target**2))
    return float(np.mean(ratios))


def test_style_distance_is_designs(encoder: VGGEncoder, rng: torch.Generator) -> None:
    styles = [torch.rand(1, 3, 20, 28, generator=rng) * 2 - 1, torch.rand(1, 3, 24, 16, generator=rng) - 0.5]
    images = torch.rand(3, 3, 16, 20, generator=rng) * 2 - 1
    loss = StyleLoss(style_grams(encoder, styles, LAYERS))
    of_styles = [encoder(style) for style in styles]
    grams = {layer: [numpy_gram(features[layer][0]) for features in of_styles] for layer in LAYERS}
    result = encoder(images)
    want = [numpy_style_distance(result, grams, image) for image in range(3)]
    assert min(want) > 0
    # Gram matrices of up to 24 x 28 cells, of both, their mean and the difference: its square is off by twice that, and
    # by more where the distance is small.
    near = {"rel": 2 * rounding(24 * 28, 4) / min(want) ** 0.5, "abs": 0}
    assert loss(result, reduction="none").tolist() == pytest.approx(want, **near)
    assert loss(result).item() == pytest.approx(np.mean(want), **near)


def test_windows_are_each_as_far_as_a_picture_of_their_own(encoder: VGGEncoder, rng: torch.Generator) -> None:
    targets = style_grams(encoder, [torch.rand(1, 3, 20, 28, generator=rng)], LAYERS)
    features = encoder(torch.rand(3, 3, 16, 24, generator=rng) * 2 - 1)

    def part(rows: slice, cols: slice) -> Tensor:
        cut = {name: value[..., *halves(value, rows, cols)] for name, value in features.items()}
        return style_distance(cut, targets, reduction="none")

    def halves(value: Tensor, *sides: slice) -> list[slice]:
        sizes = value.shape[2:]
        return [slice(side.start * size // 2, side.stop * size // 2) for side, size in zip(sides, sizes, strict=True)]

    upper, lower = slice(0, 1), slice(1, 2)
    want = torch.stack([part(rows, cols) for rows in (upper, lower) for cols in (upper, lower)]).mean(0)
    whole = style_distance(features, targets, reduction="none")
    assert not torch.allclose(want, whole, rtol=0.01)
    near = {"terms": 16 * 24, "steps": 8}
    assert_close(style_distance(features, targets, windows=(2, 2), reduction="none"), want, **near)
    assert_close(StyleLoss(targets, (2, 2), 0.3)(features, "none"), 0.7 * whole + 0.3 * want, **near)
    both = style_distance(features, targets, windows=(2, 2), window_weight=0.3, return_whole=True)
    for have, expected in zip(both, (0.7 * whole + 0.3 * want, whole), strict=True):
        assert_close(have, expected.mean(), **near)


def test_a_style_in_a_part_of_the_picture_is_far_by_its_windows(rng: torch.Generator) -> None:
    """As good as another by the whole picture, and not by the windows."""
    even = torch.randn(1, 4, 16, 16, generator=rng)
    uneven = even.clone()
    uneven[..., :8, :] *= 2**0.5 * 0.999
    uneven[..., 8:, :] *= 0.0447
    target = {"relu1_1": ops.gram(even)[0]}
    by_whole, by_windows = (
        style_distance({"relu1_1": uneven}, target, windows=windows).item() for windows in (None, (2, 1))
    )
    assert by_whole < 0.1 < 0.5 < by_windows


def test_style_distance_of_the_style_itself_is_zero(encoder: VGGEncoder, rng: torch.Generator) -> None:
    style = torch.rand(1, 3, 20, 28, generator=rng)
    loss = StyleLoss(style_grams(encoder, [style], LAYERS))
    assert loss(encoder(style)).item() <= rounding(20 * 28, 2) ** 2  # two Gram matrices
    assert loss(encoder(style.flip(3)))  # but Gram matrices of a mirrored picture are others


def test_style_loss_gradient(rng: torch.Generator) -> None:
    """Against central differences of the NumPy formula."""
    features = {name: value[:1].requires_grad_() for name, value in features_of(rng).items()}
    style = {name: [numpy_gram(torch.randn(value.shape[1:], generator=rng))] for name, value in features.items()}
    # The loss takes what ops.gram gives, divided by C H W; the ratio does not depend on that.
    loss = StyleLoss({name: torch.from_numpy(grams[0] / grams[0].shape[0]) for name, grams in style.items()})
    gradients = torch.autograd.grad(loss(features), list(features.values()))
    for (name, value), gradient in zip(features.items(), gradients, strict=True):
        direction = torch.randn(value.shape, generator=rng)
        step = 1e-4
        ends = [
            numpy_style_distance({**features, name: value.detach().double() + sign * step * direction}, style, 0)
            for sign in (1, -1)
        ]
        # Gram, difference, gradient, the sum with the direction. The differences, in float64, are exact to step^2.
        size = (gradient * direction).abs().sum().item()
        have = (gradient * direction).sum().item()
        assert have == approx((ends[0] - ends[1]) / (2 * step), terms=9 * 7, steps=4, scale=size)


def test_content_loss_formula(rng: torch.Generator) -> None:
    result, content = torch.randn(3, 4, 5, 6, generator=rng), 2 * torch.randn(3, 4, 5, 6, generator=rng)
    r, c = result.double().numpy(), content.double().numpy()
    want = [np.mean((r[i] - c[i]) ** 2) / np.mean(c[i] ** 2) for i in range(3)]
    assert ContentLoss()(result, content, "none").tolist() == approx(want, terms=4 * 5 * 6, steps=3)
    assert ContentLoss()(result, content).item() == approx(np.mean(want), terms=4 * 5 * 6, steps=4)
    assert ContentLoss()(content, content).item() == 0
    assert ContentLoss()(result, torch.zeros_like(content)).isfinite()


def test_half_precision_features_are_summed_in_float32(rng: torch.Generator) -> None:
    result, content = (1 + 0.01 * torch.randn(1, 8, 64, 64, generator=rng) for _ in range(2))
    halves = result.bfloat16(), content.bfloat16()
    r, c = (value.double() for value in halves)
    want = ((r - c).square().mean() / c.square().mean()).item()
    assert ContentLoss()(*halves).item() == approx(want, terms=8 * 64 * 64, steps=3)  # one bfloat16 rounding: ten times


def test_float64_stays(rng: torch.Generator) -> None:
    """The difference of nearly equal features, of which float32 has no digit."""
    content = torch.rand(2, 4, 8, 8, generator=rng, dtype=torch.float64) + 1
    loss = ContentLoss()(content * (1 + 1e-9), content)
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(1e-18, rel=1e-6)
