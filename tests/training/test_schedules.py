"""Schedules, beside their formulas."""

import math

import pytest

from fastgan.training import schedules


@pytest.mark.parametrize("progress", [0.0, 0.05, 0.1, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("min_ratio", [0.0, 0.2])
def test_learning_rates_warm_up_and_decay(progress: float, min_ratio: float) -> None:
    cosine = min_ratio + (1 - min_ratio) * (1 + math.cos(math.pi * min(1, progress))) / 2
    factor = schedules.lr_factor(progress, warmup=0.1, min_ratio=min_ratio)
    assert factor == pytest.approx(min(1, progress / 0.1) * cosine, abs=1e-15)
    assert schedules.lr_factor(progress, warmup=0, min_ratio=min_ratio) == pytest.approx(cosine, abs=1e-15)


def test_the_temperature_moves_by_equal_factors() -> None:
    temperatures = [schedules.temperature(progress, start=4.0, end=1.0) for progress in (0, 0.5, 1, 2)]
    assert temperatures == [4, 2, 1, 1]


def test_the_average_forgets_the_untrained_network() -> None:
    assert schedules.ema_decay(0, max_decay=0.95) == 0.1
    assert schedules.ema_decay(10, max_decay=0.95) == 11 / 20
    assert schedules.ema_decay(10_000, max_decay=0.95) == 0.95
