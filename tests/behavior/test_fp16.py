"""Training in fp16, where gradients are scaled: the arithmetic is a CPU's here, the rest is what a GPU would run."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.observed_step import NOISE, Make, equal, weights
from helpers.tiny_runs import StopAt, batch, differences, read_lines
from torch import Tensor, nn

from fastgan.training import Trainer

SIDES = {"generator": "g", "discriminator": "d"}


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgan.training.trainer.select_dtype", lambda *_: torch.float16)


def start_at(trainer: Trainer, scale: float) -> None:
    """A scale that nothing overflows at; the usual one takes some steps to come down to it."""
    for scaler in (trainer.state.scaler_g, trainer.state.scaler_d):
        scaler.load_state_dict({**scaler.state_dict(), "scale": scale})


def parts(trainer: Trainer, side: str) -> list[Tensor]:
    """All that a step of one network changes."""
    state = trainer.state
    optimizer = getattr(state, f"optimizer_{SIDES[side]}")
    found = weights(getattr(state, side)) + [value.clone() for value in optimizer._flat_state]
    found.append(optimizer._step.clone())
    return found + (weights(state.ema) if side == "generator" else [])


@pytest.mark.parametrize("fields", [{}, NOISE, {"loss.r1": 1.0, "train.accumulate": 2}], ids=["fast", "noise", "parts"])
def test_it_trains(tiny: Make, half: None, fields: dict[str, Any]) -> None:
    trainer = Trainer(tiny(fields), data=[])
    start_at(trainer, 256.0)
    before = {side: parts(trainer, side) for side in SIDES}
    for number in range(4):
        metrics = trainer.train_step(batch(number))
    assert metrics["grad_scale/g"] == trainer.state.scaler_g.get_scale() > 1
    assert metrics["grad_scale/d"] == trainer.state.scaler_d.get_scale() > 1
    assert trainer.state.is_finite()
    for side, was in before.items():
        now = parts(trainer, side)
        assert (
            1 <= now[len(weights(getattr(trainer.state, side))) + 2].item() <= 4
        )  # Adam's count, less what was left out
        assert not equal(now, was)


@pytest.fixture
def overflow() -> Iterator[Any]:
    """Makes one gradient of a network infinite."""
    hooks = []

    def make(network: nn.Module) -> None:
        first = next(network.parameters())
        hooks.append(first.register_hook(lambda gradient: torch.full_like(gradient, float("inf"))))

    yield make
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("side", SIDES)
def test_what_overflows_is_left_out_and_the_other_goes_on(
    tiny: Make, half: None, overflow: Any, side: str, clip: float | None
) -> None:
    trainer = Trainer(tiny({f"optim.{side}.clip_grad": clip}), data=[])
    state = trainer.state
    start_at(trainer, 256.0)
    trainer.train_step(batch(0))
    other = next(name for name in SIDES if name != side)
    before = {name: parts(trainer, name) for name in SIDES}
    scales = {name: getattr(state, f"scaler_{short}").get_scale() for name, short in SIDES.items()}
    overflow(getattr(state, side))
    metrics = trainer.train_step(batch(1))
    assert equal(parts(trainer, side), before[side]) and not equal(parts(trainer, other), before[other])
    assert (
        metrics[f"grad_scale/{SIDES[side]}"] == scales[side] / 2
        and metrics[f"grad_scale/{SIDES[other]}"] == scales[other]
    )
    assert state.global_step == 2


def test_a_scale_of_a_power_of_two_changes_no_bit(tiny: Make) -> None:
    """In fp32 nothing is lost, so that the scaled run must be the unscaled one."""
    plain, scaled = (Trainer(tiny({"loss.r1": 1.0}), data=[]) for _ in range(2))
    for name in ("scaler_g", "scaler_d"):
        setattr(scaled.state, name, torch.amp.GradScaler("cpu", init_scale=2.0**10))
    for number in range(3):
        for trainer in (plain, scaled):
            trainer.train_step(batch(number))
    ours, theirs = (copy.deepcopy(trainer.state.state_dict()) for trainer in (scaled, plain))
    assert ours.pop("scaler_g")["scale"] == ours.pop("scaler_d")["scale"] == 2.0**10
    del theirs["scaler_g"], theirs["scaler_d"]
    assert differences(ours, theirs) == []


def test_the_scales_are_in_the_checkpoint(tiny: Make, half: None, tmp_path: Path, no_plots: None) -> None:
    fields = {"train.steps": 6, "checkpoint.every": 3}
    whole = Trainer(tiny(fields), out=tmp_path / "whole")
    whole.fit()
    Trainer(tiny(fields), out=tmp_path / "run", callbacks=[StopAt(3)]).fit()
    kept = torch.load(next((tmp_path / "run" / "checkpoints").glob("*3.pt")), weights_only=True)
    third = read_lines(tmp_path / "run")[2]
    assert (kept["scaler_g"]["scale"], kept["scaler_d"]["scale"]) == (third["grad_scale/g"], third["grad_scale/d"])
    assert kept["scaler_g"]["_growth_tracker"] + kept["scaler_d"]["_growth_tracker"] > 0
    resumed = Trainer(tiny(fields), out=tmp_path / "run", resume=True)
    resumed.fit()
    assert differences(resumed.state.state_dict(), whole.state.state_dict()) == []


def test_no_scale_without_need(tiny: Make) -> None:
    assert not any(name.startswith("grad_scale/") for name in Trainer(tiny(), data=[]).train_step(batch(0)))
