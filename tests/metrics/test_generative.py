"""Measures of generated images against their definitions, written as loops in float64."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.bounds import approx, assert_close
from torch import Tensor

from fastgan.metrics import KID, Diversity, pooled_features

MEASURES = (KID, Diversity)


def standardized(reference: Tensor, other: Tensor) -> list[list[float]]:
    """Rows of `other` by the columns' mean and deviation in `reference`, at least a tenth of the mean deviation."""
    columns = [reference[:, column].tolist() for column in range(reference.shape[1])]
    means = [sum(values) / len(values) for values in columns]
    deviations = [
        math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
        for values, mean in zip(columns, means, strict=True)
    ]
    floor = 0.1 * sum(deviations) / len(deviations)
    scales = [max(deviation, floor) for deviation in deviations]
    return [
        [(value - mean) / scale for value, mean, scale in zip(row, means, scales, strict=True)]
        for row in other.tolist()
    ]


def kernel_distance(reference: Tensor, generated: Tensor) -> float:
    real, fake = standardized(reference, reference), standardized(reference, generated)

    def kernel(x: list[float], y: list[float]) -> float:
        return float((sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3)

    def within(rows: list[list[float]]) -> float:
        values = [kernel(x, y) for x, y in itertools.permutations(rows, 2)]
        return sum(values) / len(values)

    between = [kernel(x, y) for x in fake for y in real]
    return within(fake) + within(real) - 2 * sum(between) / len(between)


def spread(reference: Tensor, generated: Tensor) -> float:
    def mean_distance(rows: list[list[float]]) -> float:
        pairs = [math.dist(x, y) for x, y in itertools.combinations(rows, 2)]
        return sum(pairs) / len(pairs)

    return mean_distance(standardized(reference, generated)) / mean_distance(standardized(reference, reference))


def approx_pair_means(want: float, reference: Tensor, generated: Tensor) -> Any:
    """Means of pairs, computed twice in float64: standardized, 6 products, a power, the mean; then the difference of
    means, each no larger than the kernel of the longest row with itself."""
    rows = standardized(reference, torch.cat([reference, generated]))
    largest = (max(sum(value**2 for value in row) / len(row) for row in rows) + 1) ** 3
    return approx(want, terms=len(rows), steps=10, dtype=torch.float64, scale=largest)


@pytest.fixture
def features(rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Nine real images and seven others; of their 6 features, on various scales, the fifth never varies in the real."""
    scale = torch.tensor([1.0, 100.0, 0.01, 3.0, 1.0, 1.0])
    real, fake = (scale * (torch.randn(count, 6, generator=rng) + 2) for count in (9, 7))
    real[:, 4] = 0.3
    return real, fake * 1.5


@pytest.mark.parametrize(("kind", "oracle"), [(KID, kernel_distance), (Diversity, spread)])
def test_definition(kind: type, oracle: Callable[[Tensor, Tensor], float], features: tuple[Tensor, Tensor]) -> None:
    real, fake = features
    measure = kind(real)
    measure.update(fake[:4])
    assert measure.compute().item() == approx_pair_means(oracle(real, fake[:4]), real, fake)
    measure.update(fake[4:5])  # a batch of one counts as one image
    measure.update(fake[5:])
    assert measure.compute().item() == approx_pair_means(oracle(real, fake), real, fake)
    assert measure.compute().dtype == torch.float64 and measure.compute().shape == ()
    measure.reset()
    measure.update(fake[2:].double().requires_grad_())
    value = measure.compute()
    assert value.item() == approx_pair_means(oracle(real, fake[2:]), real, fake) and not value.requires_grad


def test_kernel_distance_of_one_distribution_is_zero_on_average(rng: torch.Generator) -> None:
    values, shifted = [], []
    for _ in range(60):
        measure = KID(torch.randn(100, 5, generator=rng))
        fake = torch.randn(50, 5, generator=rng)
        measure.update(fake)
        values.append(measure.compute().item())
        measure.reset()
        measure.update(fake + 0.5)
        shifted.append(measure.compute().item())
    draws = torch.tensor(values)
    # Within five standard errors. The biased estimate would be about 8 (1 / 100 + 1 / 50).
    error = 5 * draws.std() / 60**0.5
    assert abs(draws.mean()) < error < 8 * (1 / 100 + 1 / 50) and (draws < 0).any() and (draws > 0).any()
    assert min(shifted) > draws.max()


def test_kernel_distance_sees_the_third_moment() -> None:
    """Same mean and variance, skewed: what a kernel of degree 1 or 2 cannot tell."""
    count = 1000
    real = torch.tensor([-1.0, 1.0]).repeat(count // 2)[:, None]
    skewed = torch.tensor([2.0, -0.5, -0.5, -0.5, -0.5]).repeat(count // 5)[:, None]
    measure = KID(real)
    measure.update(skewed)
    # The squared difference of the third moments, 0 and 1.5. A mean over pairs leaves out each image with itself, which
    # has (x^2 + 1)^3: 1/5 * 125 + 4/5 * 1.25^3 where all pairs have 6.25, and 8 where they have 4.
    itself = (25 + 0.8 * 1.25**3 - 6.25) + (8 - 4)
    assert measure.compute().item() == approx_pair_means(1.5**2 - itself / (count - 1), real, skewed)


def test_spread_scale(rng: torch.Generator) -> None:
    real = torch.randn(300, 8, generator=rng) * 5 + 3
    fake = torch.randn(200, 8, generator=rng) * 5
    # A mean distance in 8 dimensions follows the root of |x|^2 + 8 twice over: a quarter, over the root of the count.
    # Five standard errors of the ratio.
    error = 5 * 0.25 * (1 / 300 + 1 / 200) ** 0.5
    for factor in (1.0, 0.5, 0.0):
        measure = Diversity(real)
        measure.update(factor * fake)
        assert measure.compute().item() == pytest.approx(factor, rel=error, abs=0)


def measured(kind: type, real: Tensor, fake: Tensor) -> float:
    measure = kind(real)
    measure.update(fake)
    return measure.compute().item()


@pytest.mark.parametrize("kind", MEASURES)
def test_units_do_not_matter(kind: type, features: tuple[Tensor, Tensor], rng: torch.Generator) -> None:
    """One unit and any offsets for all columns; a unit for each where none is so small that the floor holds it."""
    real, fake = (value.double() for value in features)
    want = measured(kind, real, fake)
    offset = torch.tensor([3.0, -100.0, 7.0, 2.0, 500.0, 1.0])
    assert measured(kind, 70 * real + offset, 70 * fake + offset) == approx_pair_means(want, real, fake)
    real, fake = torch.randn(9, 6, generator=rng).double(), torch.randn(7, 6, generator=rng).double()
    scale = torch.tensor([3.0, 1.0, 7.0, 2.0, 5.0, 1.5])
    assert measured(kind, scale * real + 1, scale * fake + 1) == approx_pair_means(
        measured(kind, real, fake), real, fake
    )


@pytest.mark.parametrize("kind", MEASURES)
def test_a_dead_dimension_does_not_rule(kind: type, rng: torch.Generator) -> None:
    """Rounding where real images do not vary: divided by its own deviation it would outweigh all else."""
    real, fake = torch.randn(40, 6, generator=rng).double(), torch.randn(30, 6, generator=rng).double()
    real[:, 4] = fake[:, 4] = 0.3
    want = measured(kind, real, fake)
    noisy = [value.clone() for value in (real, fake)]
    for value in noisy:
        value[:, 4] += 1e-9 * torch.randn(len(value), generator=rng)
    # Over the floor, about 0.1, the noise is some 1e-8; it enters as products of two alone, below float64's rounding.
    assert measured(kind, *noisy) == approx_pair_means(want, real, fake)
    keep = [0, 1, 2, 3, 5]
    if kind is Diversity:  # the kernel divides by the number of dimensions
        assert measured(kind, real[:, keep], fake[:, keep]) == approx_pair_means(want, real, fake)
    fake[:, 4] += 3  # it is not left out either: what real images never have is seen
    assert abs(measured(KID, real, fake)) > 10


@pytest.mark.parametrize("kind", MEASURES)
def test_what_is_refused(kind: type) -> None:
    real = torch.tensor([[0.0, 1.0], [1.0, 3.0], [5.0, 1.0]])
    for shape in ((1, 2), (0, 2), (3,)):
        with pytest.raises(ValueError, match="2 or more images, got shape"):
            kind(torch.ones(shape))
    with pytest.raises(ValueError, match="images that differ, got 3 times the same"):
        kind(torch.ones(3, 2))
    with pytest.raises(ValueError, match="must be finite"):
        kind(torch.tensor([[0.0, 1.0], [1.0, math.nan]]))
    measure = kind(real)
    with pytest.raises(ValueError, match=r"features must be \(N, 2\), got shape \(3, 3\)"):
        measure.update(torch.ones(3, 3))
    for count in range(2):
        with pytest.raises(ValueError, match=rf"{kind.__name__}.compute\(\) needs 2 .* got {count}"):
            measure.compute()
        measure.update(real[:1])
    assert math.isfinite(measure.compute().item())


def test_pooled_features(rng: torch.Generator) -> None:
    maps = {
        "relu2_1": torch.randn(3, 4, 5, 6, generator=rng) * 2 + 100,
        "relu1_1": torch.randn(3, 2, 7, 7, generator=rng).bfloat16(),
    }
    # A mean and a deviation of 49 values at the most, of up to 110.
    bound: dict[str, Any] = {"terms": 49, "steps": 2, "scale": 110.0}
    have = pooled_features(maps)
    assert have.dtype == torch.float32 and have.shape == (3, 12)
    for image in range(3):
        want: list[float] = []
        for values in (maps["relu2_1"], maps["relu1_1"]):
            channels = [channel.double().flatten().tolist() for channel in values[image]]
            means = [sum(channel) / len(channel) for channel in channels]
            want += means
            want += [
                math.sqrt(sum((value - mean) ** 2 for value in channel) / len(channel))
                for channel, mean in zip(channels, means, strict=True)
            ]
        assert have[image].tolist() == approx(want, **bound)
    # Where things are does not matter, and one position has no deviation.
    flipped = pooled_features({name: value.flip(2) for name, value in maps.items()})
    assert_close(flipped, have, **{**bound, "steps": 4})
    assert pooled_features({"relu1_1": torch.full((1, 1, 1, 1), 3.0, dtype=torch.float64)}).tolist() == [[3.0, 0.0]]


def test_pooled_features_refuses() -> None:
    with pytest.raises(ValueError, match="a layer or more"):
        pooled_features({})
    with pytest.raises(ValueError, match=r"'b' must be \(2, C, H, W\), got shape \(1, 3, 4, 4\)"):
        pooled_features({"a": torch.ones(2, 3, 4, 4), "b": torch.ones(1, 3, 4, 4)})
    with pytest.raises(ValueError, match=r"'a' must be a non-empty \(N, C, H, W\), got shape \(2, 3\)"):
        pooled_features({"a": torch.ones(2, 3)})
