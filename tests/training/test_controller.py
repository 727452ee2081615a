"""The controller on simulated training: quality rises with the weight, late, noisily, and with a bias."""

import math
import random

import pytest

from fastgan.training.controller import Controller

#: The standard deviation of a batch's quality, of an SSIM or of ``span`` decibels.
NOISE = 0.02


class Plant:
    """Quality is a sigmoid of the log weight, reached with a lag; batches are noisy and flatter than held-out pictures.

    ``span`` turns SSIM (0 to 1) into decibels.
    """

    def __init__(
        self, seed: int, *, span: float = 1.0, low: float = 0.0, bias: float = 0.0, start: float = 0.1
    ) -> None:
        self.random = random.Random(seed)
        self.span, self.low, self.bias, self.quality = span, low, bias, start

    def step(self, weight: float) -> float:
        expected = 1 / (1 + math.exp(-math.log(weight) / 1.5))
        self.quality += 0.05 * (expected - self.quality)
        return self.low + self.span * (self.quality + self.random.gauss(0, NOISE))

    def held_out(self) -> float:
        return self.low + self.span * (self.quality + self.bias)


def hold(controller: Controller, plant: Plant, steps: int, every: int = 50) -> list[float]:
    """Held-out quality after each step."""
    seen = []
    for step in range(1, steps + 1):
        controller.update(plant.step(controller.weight))
        if step % every == 0:
            controller.correct(plant.held_out())
        seen.append(plant.held_out())
    return seen


@pytest.mark.parametrize("target", [0.3, 0.45, 0.65, 0.8])
@pytest.mark.parametrize("bias", [-0.08, 0.0, 0.08])
def test_ssim_settles_at_the_target(target: float, bias: float) -> None:
    """On pictures that come out better or worse than the batches do: within three of a batch's deviations, on average
    within one."""
    for seed in range(3):
        seen = hold(Controller("ssim", target), Plant(seed, bias=bias), 600)
        assert all(abs(quality - target) < 3 * NOISE for quality in seen[-150:])
        assert sum(seen[-150:]) / 150 == pytest.approx(target, rel=0, abs=NOISE)


@pytest.mark.parametrize("target", [14.0, 18.0, 22.0])
@pytest.mark.parametrize("bias", [-0.05, 0.05])
def test_psnr_settles_at_the_target(target: float, bias: float) -> None:
    seen = hold(Controller("psnr", target), Plant(0, span=20, low=8, bias=bias), 600)
    assert sum(seen[-150:]) / 150 == pytest.approx(target, rel=0, abs=20 * NOISE)


@pytest.mark.parametrize("metric", ["coverage", "lpips"])
@pytest.mark.parametrize("target", [0.4, 0.6, 0.85])
def test_what_is_measured_of_held_out_photographs_alone_settles(metric: str, target: float) -> None:
    """Such a quality falls where structure weighs more."""
    for seed in range(3):
        controller, plant = Controller(metric, target), Plant(seed)
        seen = []
        for step in range(1, 1001):
            plant.step(controller.weight)
            controller.update(math.nan)
            if step % 50 == 0:
                controller.correct(1 - plant.held_out())
            seen.append(1 - plant.held_out())
        assert sum(seen[-200:]) / 200 == pytest.approx(target, rel=0, abs=0.02)
        assert all(abs(quality - target) < 0.05 for quality in seen[-200:])


def test_steps_between_measurements_count() -> None:
    """And one measurement, after however many steps, does not throw the weight to its end."""
    moved = []
    for steps in (1, 2, 1000):
        controller = Controller("coverage", 0.8, gain=0.4)
        for _ in range(steps):
            assert controller.update(math.nan) == 1
        controller.correct(0.9)
        moved.append(controller.log_weight)
        controller.correct(0.1)
        assert controller.log_weight == moved[-1]  # no step since
    assert moved == pytest.approx([0.4 * 0.1, 2 * 0.4 * 0.1, 0.7])


def test_direction() -> None:
    low, high = Controller("ssim", 0.5), Controller("ssim", 0.5)
    assert low.weight == high.weight == 1
    assert low.update(0.2) > 1 > high.update(0.8)


def test_size_of_a_step() -> None:
    """``gain`` is the change of the log weight for an error of 1 in SSIM and of 20 dB in PSNR."""
    assert math.log(Controller("ssim", 0.5, gain=0.4).update(0.4)) == pytest.approx(0.4 * 0.1)
    assert math.log(Controller("psnr", 20.0, gain=0.4).update(22.0)) == pytest.approx(-0.4 * 0.1)


def test_without_the_correction_the_bias_stays() -> None:
    """The purpose of ``correct``."""
    plant = Plant(0, bias=-0.08)
    seen = hold(Controller("ssim", 0.5), plant, 600, every=10_000)
    assert sum(seen[-150:]) / 150 == pytest.approx(0.5 - 0.08, rel=0, abs=NOISE)


def test_no_windup() -> None:
    """After a long time out of reach, in either direction, the weight comes back as soon as after a short one."""
    times = []
    for quality in (0.0, 1.0):
        for unreachable in (200, 20_000):
            controller = Controller("ssim", 0.5)
            for _ in range(unreachable):
                controller.update(quality)
            assert controller.weight == pytest.approx(100 if quality == 0 else 1 / 100)
            steps = 0
            while not 0.5 < controller.weight < 2:
                controller.update(1 - quality)
                steps += 1
                assert steps < 1000
            times.append(steps)
    assert times[0] == times[1] and times[2] == times[3]


def test_one_bad_batch_moves_little() -> None:
    """The untrained network is far from any target; that must not throw the weight to its end."""
    controller = Controller("ssim", 0.9)
    assert 1 < controller.update(-1.0) < 1.1
    decibels = Controller("psnr", 20.0)
    assert 1 > decibels.update(1000.0) > 0.9


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_ignored(bad: float) -> None:
    controller = Controller("ssim", 0.5)
    controller.update(bad)
    assert controller.running is None and controller.weight == 1
    controller.correct(0.4)  # nothing to compare with yet
    assert controller.correction == 0
    controller.update(0.4)
    before = controller.running, controller.log_weight, controller.correction
    controller.update(bad)
    controller.correct(bad)
    assert (controller.running, controller.log_weight, controller.correction) == before


def test_state_round_trip() -> None:
    plant, twin = Plant(1, bias=0.05), Plant(1, bias=0.05)
    one = Controller("ssim", 0.6)
    hold(one, plant, 130)
    hold(Controller("ssim", 0.6), twin, 130)
    other = Controller("ssim", 0.6)
    other.load_state_dict(one.state_dict())
    assert hold(one, plant, 120) == hold(other, twin, 120)
    assert one.state_dict() == other.state_dict()
    fresh = Controller("ssim", 0.6)
    fresh.load_state_dict(Controller("ssim", 0.1).state_dict())
    assert fresh.running is None and fresh.weight == 1


def test_unknown_metric() -> None:
    with pytest.raises(ValueError, match="'ssim', 'psnr', 'coverage', 'lpips'"):
        Controller("fid", 0.5)


def test_another_target_takes_up_the_weight_alone() -> None:
    held = Controller("ssim", 0.5)
    for _ in range(20):
        held.update(0.3)
    held.correct(0.4)
    other = Controller("psnr", 15.0)
    other.load_state_dict(held.state_dict())
    assert other.weight == held.weight > 1 and other.running is None and other.correction == 0
