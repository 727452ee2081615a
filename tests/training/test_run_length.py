"""How long a run is."""

import time
from collections.abc import Callable

import pytest

from fastgan.config import Config
from fastgan.config.sections import TrainConfig
from fastgan.training import Trainer
from fastgan.training.run_length import DEFAULT_STEPS, RunLength


def test_of_a_config() -> None:
    assert RunLength.from_config(TrainConfig(), None) == RunLength(steps=DEFAULT_STEPS) == RunLength(steps=2000)
    assert RunLength.from_config(TrainConfig(steps=7), 5) == RunLength(steps=7)
    assert RunLength.from_config(TrainConfig(minutes=1.5), None) == RunLength(seconds=90)
    assert RunLength.from_config(TrainConfig(epochs=2.5), 4) == RunLength(steps=10)
    assert RunLength.from_config(TrainConfig(epochs=0.01), 4) == RunLength(steps=1)
    with pytest.raises(ValueError, match=r"train\.epochs needs data of known length"):
        RunLength.from_config(TrainConfig(epochs=1), None)


def test_steps() -> None:
    budget = RunLength(steps=10)
    assert [budget.done(step, 1e9) for step in (0, 9, 10, 11)] == [False, False, True, True]
    assert [budget.progress(step, 1e9) for step in (0, 5, 10, 20)] == [0, 0.5, 1, 1]
    assert [budget.schedule(step, 1e9) for step in (0, 9)] == pytest.approx([0.05, 0.95])


def test_seconds() -> None:
    budget = RunLength(seconds=10)
    assert [budget.done(5, elapsed) for elapsed in (0, 9.9, 10, 11)] == [False, False, True, True]
    assert [budget.progress(5, elapsed) for elapsed in (0, 5, 10, 99)] == [0, 0.5, 1, 1]
    assert not budget.done(0, 99)  # a model that was never trained is no result
    assert RunLength(seconds=0).progress(0, 0) in (0, 1)


def test_minutes_are_those_of_the_whole_command(tiny: Callable[..., Config]) -> None:
    """A command that started long ago has hardly any time left, and trains at least one step all the same."""
    config = tiny({"train.steps": None, "train.minutes": 10})
    trainer = Trainer(config, started=time.monotonic() - 600)
    report = trainer.fit()
    assert trainer.run_length.seconds == 1, "the least that is left"
    assert trainer.state.global_step >= 1 and report["complete"]
    fresh = Trainer(config)
    assert fresh.run_length.seconds == 600


def test_schedules_follow_the_clock(tiny: Callable[..., Config]) -> None:
    trainer = Trainer(tiny({"train.steps": None, "train.minutes": 1, "optim.warmup": 0}))
    trainer.state.train_seconds = 30
    from helpers.tiny_runs import batch

    rate = trainer.config.optim.generator.lr
    final = trainer.config.optim.min_lr_ratio
    assert trainer.train_step(batch(0))["lr/g"] == pytest.approx(rate * (1 + final) / 2)
