"""A loss that is not finite: back to the last good state, slower, a bounded number of times."""

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.tiny_runs import Recorder, differences, floats, read_lines

from fastgan.config import Config
from fastgan.errors import FastganError, InputError
from fastgan.training import Callback, DivergenceError, Trainer
from fastgan.training.callbacks import RollbackRequest

Make = Callable[..., Config]


def batches(count: int = 30) -> Iterator[torch.Tensor]:
    for number in range(1, count + 1):
        yield floats(number)


def spoiled(trainer: Trainer, bad: set[int]) -> Trainer:
    """The steps numbered in ``bad``, from 1, in the order in which they are taken, leave NaN in weights and losses."""
    step, taken = trainer.train_step, itertools.count(1)

    def take(images: torch.Tensor) -> dict[str, float]:
        metrics = step(images)
        if next(taken) in bad:
            for parameter in trainer.state.generator.parameters():
                parameter.data.fill_(math.nan)
            metrics["loss/g"] = math.nan
        return metrics

    trainer.train_step = take  # type: ignore[method-assign]
    return trainer


class Snapshots(Callback):
    def __init__(self) -> None:
        self.after: dict[int, dict[str, Any]] = {}
        self.rates: dict[int, float] = {}
        self.restored: list[dict[str, Any]] = []

    def on_start(self, trainer: Trainer) -> None:
        self.after[0] = trainer.state.snapshot()

    def on_step(self, trainer: Trainer, event: Any) -> None:
        self.after[event.step] = trainer.state.snapshot()
        self.rates[event.step] = event.metrics["lr/g"]

    def on_rollback(self, trainer: Trainer, event: Any) -> None:
        self.restored.append(trainer.state.snapshot())


def without_lr_scale(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name not in ("lr_scale", "rollbacks")}


def test_the_last_good_state_is_restored_and_the_rates_halved(tiny: Make, tmp_path: Path, no_plots: None) -> None:
    watch, snapshots = Recorder(), Snapshots()
    fields = {"train.steps": 8, "eval.every": 3, "quality.target_ssim": 0.5}
    trainer = Trainer(tiny(fields), out=tmp_path / "run", data=batches(), callbacks=[watch, snapshots])
    spoiled(trainer, {6}).fit()
    (event,) = watch.of("on_rollback")
    assert (event.step, event.restored_step, event.lr_scale) == (6, 3, 0.5)
    good = {name: value for name, value in without_lr_scale(snapshots.after[3]).items() if name != "controller"}
    restored = {name: value for name, value in without_lr_scale(snapshots.restored[0]).items() if name != "controller"}
    assert differences(good, restored) == []
    assert trainer.state.lr_scale == 0.5 and trainer.state.rollbacks == 1
    assert all(parameter.isfinite().all() for parameter in trainer.state.generator.parameters())
    # The steps taken back stand once in the metrics, and the run has as many steps as it was asked for.
    assert [line["step"] for line in read_lines(tmp_path / "run")] == list(range(1, 9))
    assert None not in [line["loss/g"] for line in read_lines(tmp_path / "run")]
    plain = Trainer(tiny(fields))
    plain.state.global_step = 5
    assert 0 < snapshots.rates[6] == pytest.approx(plain.train_step(floats(1))["lr/g"] / 2)


def test_a_rollback_before_the_first_measurement(tiny: Make) -> None:
    """The state at the start is a good state too."""
    watch, snapshots = Recorder(), Snapshots()
    spoiled(Trainer(tiny({"eval.every": 50}), data=batches(), callbacks=[watch, snapshots]), {2}).fit()
    (event,) = watch.of("on_rollback")
    assert (event.step, event.restored_step) == (2, 0)
    assert differences(without_lr_scale(snapshots.after[0]), without_lr_scale(snapshots.restored[0])) == []


def test_bounded(tiny: Make, caplog: pytest.LogCaptureFixture) -> None:
    watch = Recorder()
    trainer = spoiled(Trainer(tiny({"train.steps": 20}), data=batches(), callbacks=[watch]), set(range(3, 31)))
    with pytest.raises(DivergenceError, match=r"after 3 rollbacks; lower optim\.generator\.lr") as caught:
        trainer.fit()
    assert issubclass(DivergenceError, FastganError) and not isinstance(caught.value, InputError)
    events = watch.of("on_rollback")
    assert [event.lr_scale for event in events] == [0.5, 0.25, 0.125] and watch.names()[-1] == "close"
    logged = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text for text in logged if "learning rates x" in text] == [str(event) for event in events]
    assert {record.name.partition(".")[0] for record in caplog.records} == {"fastgan"}


def test_several_scattered_rollbacks_are_survived(tiny: Make) -> None:
    watch = Recorder()
    trainer = spoiled(Trainer(tiny({"train.steps": 12}), data=batches(), callbacks=[watch]), {3, 9, 14})
    assert trainer.fit()["rollbacks"] == 3
    assert trainer.state.global_step == 12 and len(watch.of("on_rollback")) == 3
    assert all(math.isfinite(event.metrics["loss/g"]) for event in watch.of("on_step"))


def test_damping_survives_a_resume(tiny: Make, tmp_path: Path, no_plots: None) -> None:
    fields = {"train.steps": 6, "checkpoint.every": 2}
    spoiled(Trainer(tiny(fields), out=tmp_path / "run", data=batches()), {3}).fit()
    trainer = Trainer(tiny({**fields, "train.steps": 8}), out=tmp_path / "run", data=batches(), resume=True)
    assert (trainer.state.lr_scale, trainer.state.rollbacks, trainer.state.global_step) == (0.5, 1, 6)


def test_no_rollback_in_a_single_step(tiny: Make) -> None:
    """``trainer.train_step`` is the caller's own loop: it tells, and does nothing about it."""
    trainer = Trainer(tiny())
    next(trainer.state.generator.parameters()).data.fill_(math.nan)
    assert math.isnan(trainer.train_step(floats(0))["loss/g"])


class Poison(Callback):
    """Puts a NaN into a network, once, after a step."""

    def __init__(self, step: int, network: str) -> None:
        self.step, self.network, self.done = step, network, False

    def on_step(self, trainer: Trainer, event: Any) -> None:
        if event.step == self.step and not self.done:
            self.done = True
            next(getattr(trainer.state, self.network).parameters()).data[0, 0, 0, 0] = math.nan


def test_the_data_goes_back_too(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step has the batch of its number, so that a resumed run sees what an uninterrupted one does."""
    trainer = Trainer(tiny({"train.steps": 6, "data.prefetch": 2}), callbacks=[Poison(3, "generator")])
    assert trainer.photographs is not None
    seen: list[tuple[int, torch.Tensor]] = []
    step = trainer.train_step
    monkeypatch.setattr(
        trainer, "train_step", lambda batch: (seen.append((trainer.state.global_step, batch)), step(batch))[1]
    )
    trainer.fit()
    assert [number for number, _ in seen] == [0, 1, 2, 3, 2, 3, 4, 5]
    for number, images in seen:
        assert torch.equal(images, trainer.photographs.batches.batch_at(number)), number


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_a_broken_state_is_not_kept_as_good(tiny: Make, network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights gone bad in the very step after which the state would be kept, under losses that are finite."""
    watch = Recorder()
    trainer = Trainer(tiny({"train.steps": 6}), callbacks=[watch])
    poison, step = Poison(4, network), trainer.train_step

    def poisoned(images: torch.Tensor) -> dict[str, float]:
        metrics = step(images)
        poison.on_step(trainer, SimpleNamespace(step=trainer.state.global_step))
        return metrics

    monkeypatch.setattr(trainer, "train_step", poisoned)
    trainer.fit()
    assert [(event.step, event.restored_step) for event in watch.of("on_rollback")] == [(4, 2)]
    assert trainer.state.global_step == 6 and trainer.state.is_finite()


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_a_state_broken_by_a_callback_is_not_kept_as_good(tiny: Make, network: str) -> None:
    class WhenMeasured(Poison):
        def on_evaluation(self, trainer: Trainer, event: Any) -> None:
            Poison.on_step(self, trainer, event)

        def on_step(self, trainer: Trainer, event: Any) -> None:
            pass

    watch = Recorder()
    Trainer(tiny({"train.steps": 6, "quality.target_ssim": 0.5}), callbacks=[WhenMeasured(4, network), watch]).fit()
    assert [(event.step, event.restored_step) for event in watch.of("on_rollback")] == [(5, 2)]


def test_a_state_broken_between_steps_is_taken_back(tiny: Make) -> None:
    """The state of step 4 was kept before ``on_step`` was told."""
    watch = Recorder()
    Trainer(tiny({"train.steps": 6}), callbacks=[Poison(4, "generator"), watch]).fit()
    assert [(event.step, event.restored_step) for event in watch.of("on_rollback")] == [(5, 4)]


def test_what_a_callback_sets_up_at_the_start_is_kept(tiny: Make) -> None:
    """Weights that a callback has loaded in ``on_start`` are those of the state that the run begins with."""

    class Loads(Callback):
        def on_start(self, trainer: Trainer) -> None:
            with torch.no_grad():
                for parameter in trainer.state.discriminator.parameters():
                    parameter.fill_(0.125)

    class Checks(Callback):
        def on_rollback(self, trainer: Trainer, event: Any) -> None:
            assert all((parameter == 0.125).all() for parameter in trainer.state.discriminator.parameters())

    watch = Recorder()
    spoiled(Trainer(tiny({"eval.every": 50}), data=batches(), callbacks=[Loads(), Checks(), watch]), {2}).fit()
    assert len(watch.of("on_rollback")) == 1


def test_a_step_that_a_callback_refuses_is_not_kept_as_good(tiny: Make) -> None:
    """Refused at a step of evaluation: back to the one before it, and never the best."""

    class Refuses(Callback):
        def __init__(self) -> None:
            self.done = False

        def after_step(self, trainer: Trainer, metrics: dict[str, float]) -> None:
            if trainer.state.global_step == 4 and not self.done:
                self.done = True
                assert trainer.state.best is not None and trainer.state.best.step == 2
                raise RollbackRequest("not this one")

    watch = Recorder()
    fields = {"train.steps": 4, "eval.every": 2, "quality.patience": 9}
    trainer = Trainer(tiny(fields), callbacks=[Refuses(), watch])
    trainer.fit()
    (event,) = watch.of("on_rollback")
    assert (event.step, event.restored_step, event.fault) == (4, 2, "not this one")
