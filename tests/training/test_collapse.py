"""The collapse alarm: on images that collapse, and on sequences of figures."""

import json
import math
import warnings

import pytest
import torch
from helpers.bounds import rounding

from fastgan.metrics import batch_diversity
from fastgan.training.collapse import CollapseAlarm

SPREAD, LOSS_D = "nearly the same image", "the discriminator has won"


def lines(alarm: CollapseAlarm, spread: float, loss_d: float | None, count: int) -> list[tuple[int, str]]:
    """The messages of `count` updates, each with its number from 1."""
    told = ((number, alarm.update(spread, loss_d)) for number in range(1, count + 1))
    return [(number, line) for number, line in told if line is not None]


def deviation(batch: torch.Tensor) -> float:
    height, width = batch.shape[2] // 8, batch.shape[3] // 8
    cells = batch.double().reshape(len(batch), 3, 8, height, 8, width).mean((3, 5))
    mean = sum(cells) / len(cells)
    variance = sum((cell - mean) ** 2 for cell in cells) / (len(cells) - 1)
    return float(torch.as_tensor(variance).sqrt().mean())


def assert_spread(images: torch.Tensor, reference: torch.Tensor) -> None:
    """The deviations are of means over an area and a batch, off by what rounding leaves in values of their size."""
    want = deviation(images) / deviation(reference)
    sizes = [batch.double().abs().max().item() / deviation(batch) for batch in (images, reference)]
    error = rounding(max(images[0, 0].numel(), reference[0, 0].numel()) // 64, 3) * sum(sizes)
    assert batch_diversity(images, reference).item() == pytest.approx(want, rel=error, abs=0)


def test_batch_spread_is_the_deviation_of_the_areas(rng: torch.Generator) -> None:
    images, reference = torch.rand(4, 3, 16, 24, generator=rng), torch.rand(6, 3, 32, 8, generator=rng)
    have = batch_diversity(images, reference)
    assert have.shape == () and have.dtype == torch.float32
    assert_spread(images, reference)


def test_batch_spread_of_collapse(rng: torch.Generator) -> None:
    photographs = torch.rand(5, 3, 16, 16, generator=rng)
    same = photographs[:1].expand(5, -1, -1, -1)
    assert batch_diversity(same, photographs).item() <= rounding(len(same)) / deviation(photographs)
    assert_spread(photographs.bfloat16(), photographs)
    assert_spread(photographs / 2 - 3, photographs)
    # Noise of a pixel on one image is not variety: areas of 32 x 32 divide it by 32. The deviation of five is, at most,
    # that on average, with a standard error of 1 / sqrt(8) over the root of 192 areas: five of these.
    noise = torch.randn(5, 3, 256, 256, generator=rng)
    wide = photographs.repeat_interleave(16, 2).repeat_interleave(16, 3)
    most = 0.1 / 32 * (1 + 5 / (8 * 192) ** 0.5) / deviation(wide)
    assert batch_diversity(wide[:1] + 0.1 * noise, wide).item() < most
    assert not batch_diversity(photographs.requires_grad_(), photographs).requires_grad


def test_batch_spread_of_one_image_is_not_a_number() -> None:
    one, two = torch.rand(1, 3, 16, 16), torch.rand(2, 3, 16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert batch_diversity(one, two).isnan() and batch_diversity(two, one).isnan()
    with pytest.raises(ValueError, match="of the same C, got"):
        batch_diversity(two, two[:, :1])
    with pytest.raises(ValueError, match="must be"):
        batch_diversity(two[0], two)


def test_fires_once_on_collapse_and_names_what_was_seen() -> None:
    alarm = CollapseAlarm(patience=5, warmup=10)
    told = lines(alarm, 0.034, 0.7, 200)
    assert [number for number, _ in told] == [15]  # after the warmup, five in a row
    line = told[0][1]
    assert SPREAD in line and LOSS_D not in line and "\n" not in line
    assert "0.034" in line and "for 5 steps" in line
    for remedy in ("optim.discriminator.lr", "loss.r1", "set loss.augment to [color,translation]"):
        assert remedy in line


def test_fires_when_the_discriminator_has_won() -> None:
    told = lines(CollapseAlarm(patience=4, warmup=0), 0.8, 0.0012, 100)
    assert [number for number, _ in told] == [4]
    line = told[0][1]
    assert LOSS_D in line and SPREAD not in line and "\n" not in line
    assert "0.0012" in line and "for 4 steps" in line
    for remedy in ("optim.discriminator.lr", "loss.r1", "set loss.augment to [color,translation]"):
        assert remedy in line


def test_both_signs_at_once_are_one_line() -> None:
    told = lines(CollapseAlarm(patience=3, warmup=2), 0.0, 0.0, 50)
    assert [number for number, _ in told] == [5]
    assert SPREAD in told[0][1] and LOSS_D in told[0][1] and "\n" not in told[0][1]


@pytest.mark.parametrize(("spread", "loss_d"), [(1.0, 0.7), (0.11, 0.021), (0.5, None), (3.0, 5.0)])
def test_silent_on_healthy_runs(spread: float, loss_d: float | None) -> None:
    assert lines(CollapseAlarm(), spread, loss_d, 1000) == []


def test_images_that_collapse_during_a_run(rng: torch.Generator) -> None:
    alarm = CollapseAlarm(patience=10, warmup=5)
    told: list[int] = []
    for step in range(120):
        photographs = torch.rand(4, 3, 16, 16, generator=rng)
        variety = 1.0 if step < 60 else 0.02
        made = 0.3 + variety * torch.rand(4, 3, 16, 16, generator=rng)
        if alarm.update(batch_diversity(made, photographs).item(), 0.6):
            told.append(step)
    # 0.9^k + 0.02 (1 - 0.9^k) falls below a tenth at k = 23.8, the 24th step from 60 on; with it, ten in a row. The
    # deviation of four images has a standard error of 1 / sqrt(6), over the root of 192 areas; the ratio of two 0.042;
    # the running mean a quarter of that, 0.01. Five of them move k by 0.05 / 0.105.
    assert len(told) == 1 and abs(told[0] - (60 + 24 - 1 + 9)) <= 1


@pytest.mark.parametrize("sign", [SPREAD, LOSS_D])
def test_arms_again_after_a_recovery(sign: str) -> None:
    alarm = CollapseAlarm(patience=3, warmup=0, smoothing=0.5)

    def phase(bad: bool, count: int) -> list[tuple[int, str]]:
        spread, loss_d = (0.0 if bad else 1.0, 0.7) if sign == SPREAD else (1.0, 0.0 if bad else 0.7)
        return lines(alarm, spread, loss_d, count)

    assert len(phase(True, 20)) == 1
    assert phase(False, 20) == []
    again = phase(True, 20)
    assert len(again) == 1 and sign in again[0][1]
    assert again[0][0] > 3  # the running mean has to come down before the patience begins
    # A short relapse is not told.
    alarm = CollapseAlarm(patience=3, warmup=0, smoothing=0.0)
    for _ in range(20):
        assert phase(True, 2) == [] and phase(False, 1) == []


def test_the_warmup_counts_neither_way() -> None:
    alarm = CollapseAlarm(patience=5, warmup=20, smoothing=0.0)
    assert lines(alarm, 0.0, 0.0, 20) == []
    assert lines(alarm, 1.0, 1.0, 10) == []
    alarm = CollapseAlarm(patience=5, warmup=20, smoothing=0.0)
    assert [number for number, _ in lines(alarm, 0.0, 1.0, 40)] == [25]


def test_smoothing_bears_with_single_values() -> None:
    """By hand: 0.9 * running + 0.1 * value, so that 0 and 1 in turn settle about a half."""
    alarm = CollapseAlarm(patience=1, warmup=0)
    assert all(alarm.update(float(step % 2 == 0), None) is None for step in range(100))
    alarm = CollapseAlarm(patience=1, warmup=0)
    assert alarm.update(1.0, None) is None
    # 0.9^21 = 0.109, 0.9^22 = 0.098
    assert [number for number, _ in lines(alarm, 0.0, None, 30)] == [22]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_ignored(value: float) -> None:
    alarm = CollapseAlarm(patience=3, warmup=0, smoothing=0.5)
    assert lines(alarm, value, value, 50) == []
    # Neither counted nor an end of the row.
    assert [alarm.update(spread, 1.0) is not None for spread in (0.0, value, 0.0, value, value, 0.0)] == [False] * 5 + [
        True
    ]
    assert [alarm.update(1.0, loss) is not None for loss in (0.0, value, 1.0)] == [False] * 3
    json.dumps(alarm.state_dict(), allow_nan=False)


def test_state_round_trip(rng: torch.Generator) -> None:
    """Interrupted at any step, it says the same at the same steps, and twice nothing."""
    figures = [
        ((0.02 if 30 < step < 90 or step > 130 else 0.9) * noise, 0.001 * noise if step > 60 else 0.5 * noise)
        for step, noise in enumerate((torch.rand(200, generator=rng, dtype=torch.float64) + 0.5).tolist())
    ]

    def fresh() -> CollapseAlarm:
        return CollapseAlarm(patience=6, warmup=40, smoothing=0.8)

    whole = fresh()
    want = [whole.update(*pair) for pair in figures]
    assert sum(line is not None for line in want) == 3
    for cut in range(0, 200, 7):
        first, second = fresh(), fresh()
        have = [first.update(*pair) for pair in figures[:cut]]
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        have += [second.update(*pair) for pair in figures[cut:]]
        assert have == want
        assert second.state_dict() == whole.state_dict()


@pytest.mark.parametrize("options", [{"patience": 0}, {"warmup": -1}, {"smoothing": 1.0}, {"smoothing": -0.1}])
def test_bad_options(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="patience must be 1 or more, warmup 0 or more and smoothing in"):
        CollapseAlarm(**options)  # type: ignore[arg-type]
