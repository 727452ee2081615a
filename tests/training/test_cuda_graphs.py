"""A step that is replayed is the step: on CPU a tape stands in for the CUDA graph, which no test here can run."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.observed_step import NOISE, Make
from helpers.tape import record_on_tape
from helpers.tiny_runs import Recorder, StopAt, batch, differences, read_lines, untimed
from torch import Tensor

from fastgan.errors import InputError
from fastgan.training import Trainer, cuda_graphs
from fastgan.training.cuda_graphs import CudaGraphRunner, StepGraph, unsupported_reason
from fastgan.training.train_step import TrainStep

CPU = torch.device("cpu")
#: No augmentation, which the recipe of images from noise has.
FROM_NOISE = {**NOISE, "loss.augment": []}


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[StepGraph]:
    """Graphs are tapes; one entry for each replay."""
    seen: list[StepGraph] = []
    replay = StepGraph.replay
    monkeypatch.setattr(StepGraph, "_record", record_on_tape)
    monkeypatch.setattr(StepGraph, "replay", lambda graph, inputs: (seen.append(graph), replay(graph, inputs))[1])
    return seen


def replaying(trainer: Trainer, told: list[str] | None = None) -> CudaGraphRunner:
    made = CudaGraphRunner(trainer.stepper.update, CPU, (told if told is not None else []).append)
    trainer.stepper.graph_runner = made
    return made


def same_state(one: Trainer, other: Trainer) -> bool:
    left, right = one.state.state_dict(), other.state.state_dict()
    left.pop("decisions"), right.pop("decisions")
    return differences(left, right) == []


RUNS: dict[str, tuple[dict[str, Any], int]] = {
    "fast": ({}, 5),
    "bf16": ({"train.precision": "bf16", "loss.tv": 0.2, "loss.psnr": 0.1}, 5),
    "target": ({"quality.target_ssim": 0.6}, 5),
    "noise": (FROM_NOISE, 5),
    "article": ({"model.name": "article", "loss.kind": "hinge", "loss.content": 0.0}, 5),
    "r1": ({"loss.r1": 1.0, "loss.r1_interval": 3}, 4),  # the first step and the fourth take it, and run as they are
    "no-adversary": ({"loss.adversarial": 0.0}, 5),
    "parts": ({"train.accumulate": 2}, 5),
    "twice": ({"train.activation_checkpointing": True}, 5),
    "clipped": ({"optim.generator.clip_grad": 0.1, "optim.discriminator.clip_weights": 0.01, "loss.kind": "wgan"}, 5),
    "sgd": ({"optim.generator.name": "sgd", "optim.discriminator.name": "rmsprop"}, 5),
    "spectral": ({"model.discriminator.spectral_norm": True}, 5),
}


@pytest.mark.parametrize("name", RUNS)
def test_replayed_steps_are_the_steps(tiny: Make, replays: list[StepGraph], name: str) -> None:
    """To the bit, though rates, EMA, crops, noise and the controller's weight change and no Python runs in a replay."""
    fields, count = RUNS[name]
    plain, replayed = (Trainer(tiny({**fields, "train.steps": 6}), data=[]) for _ in range(2))
    told: list[str] = []
    replaying(replayed, told)
    lines: list[list[dict[str, Any]]] = [[], []]
    for number in range(6):
        for trainer, kept in zip((plain, replayed), lines, strict=True):
            kept.append(trainer.train_step(batch(number)))
    assert told == [] and len(replays) == count
    for one, other in zip(*map(untimed, lines), strict=True):
        assert one == pytest.approx(other, rel=0, abs=0, nan_ok=True)
    assert same_state(plain, replayed)
    assert replayed.state.decisions == {"graphs": {"replayed": True}}


def test_gradient_scales_are_replayed(tiny: Make, replays: list[StepGraph], monkeypatch: pytest.MonkeyPatch) -> None:
    """fp16: what overflows is left out and the scale moves, all on the device."""
    monkeypatch.setattr("fastgan.training.trainer.select_dtype", lambda *_: torch.float16)
    plain, replayed = (Trainer(tiny(), data=[]) for _ in range(2))
    replaying(replayed)
    scales = []
    for number in range(5):
        for trainer in (plain, replayed):
            metrics = trainer.train_step(batch(number))
        scales.append(metrics["grad_scale/g"])
    assert len(replays) == 4 and len(set(scales)) > 2 and same_state(plain, replayed)


class Poison:
    """Whatever reads it fails."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the device's part read {name} of the host's")

    def __add__(self, other: Any) -> Any:
        raise AssertionError("the device's part read a number of the host's")

    __radd__ = __mod__ = __mul__ = __float__ = __add__


@pytest.mark.parametrize("fields", [{"quality.target_ssim": 0.6}, FROM_NOISE], ids=["stylize", "noise"])
def test_the_devices_part_reads_nothing_that_changes_on_the_host(
    tiny: Make, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, poisoned = (Trainer(tiny(fields), data=[]) for _ in range(2))
    update = TrainStep.update

    def call(self: TrainStep, state: Any, inputs: dict[str, Tensor], **options: Any) -> Any:
        if state is not poisoned.state:
            return update(self, state, inputs, **options)
        kept = {
            name: getattr(state, name) for name in ("global_step", "rng", "controller", "lr_scale", "train_seconds")
        }
        groups = [optimizer.param_groups[0] for optimizer in (state.optimizer_g, state.optimizer_d)]
        rates = [group["lr"] for group in groups]
        for name in kept:
            setattr(state, name, Poison())
        for group in groups:
            group["lr"] = math.nan
        try:
            return update(self, state, inputs, **options)
        finally:
            for name, value in kept.items():
                setattr(state, name, value)
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate

    monkeypatch.setattr(TrainStep, "update", call)
    for number in range(3):
        for trainer in (plain, poisoned):
            trainer.train_step(batch(number))
    assert same_state(plain, poisoned)


def test_steps_of_another_shape_run_as_they_are(tiny: Make, replays: list[StepGraph]) -> None:
    plain, replayed = (Trainer(tiny(), data=[]) for _ in range(2))
    replaying(replayed)
    for number, count in enumerate((2, 2, 3, 2, 1, 2)):
        for trainer in (plain, replayed):
            trainer.train_step(batch(number, count))
    assert len(replays) == 3 and same_state(plain, replayed)


def test_a_rollback_lies_where_the_graph_reads(tiny: Make, replays: list[StepGraph]) -> None:
    """Taken back to an earlier state, at half the rates, the replays go on from there."""
    plain, replayed = (Trainer(tiny(), data=[]) for _ in range(2))
    replaying(replayed)
    for trainer in (plain, replayed):
        trainer.train_step(batch(0))
        trainer.train_step(batch(1))
        trainer._rollback.keep(trainer.state)
        trainer.train_step(batch(2))
        trainer._rollback.restore(trainer, "a test")
        metrics = trainer.train_step(batch(3))
    assert len(replays) == 3 and math.isfinite(metrics["loss/g"])
    assert replayed.state.lr_scale == 0.5 and same_state(plain, replayed)


def test_nothing_is_recorded_while_something_is_to_be_decided(tiny: Make, replays: list[StepGraph]) -> None:
    trainer = Trainer(tiny(), data=[])
    runner = replaying(trainer)
    runner.paused = True
    for number in range(3):
        trainer.train_step(batch(number))
    assert len(replays) == 0
    runner.paused = False
    trainer.train_step(batch(3))
    assert len(replays) == 1


def off(graph: StepGraph, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return graph._compute({**inputs, "scalars": 1.01 * inputs["scalars"]})


def failing(graph: StepGraph, device: torch.device) -> None:
    graph._compute(graph.inputs)
    raise RuntimeError("operation not permitted when stream is capturing\nlong trace")


@pytest.mark.parametrize(
    ("method", "stand_in", "reason"),
    [
        ("replay", off, "its update is off by "),
        ("_record", failing, "RuntimeError: operation not permitted when stream is capturing"),
    ],
)
def test_dropped_aloud_where_it_differs_or_fails(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, method: str, stand_in: Any, reason: str
) -> None:
    monkeypatch.setattr(StepGraph, method, stand_in)
    plain, dropped = (Trainer(tiny(), data=[]) for _ in range(2))
    told: list[str] = []
    replaying(dropped, told)
    for number in range(4):
        for trainer in (plain, dropped):
            trainer.train_step(batch(number))
    assert len(told) == 1 and "\n" not in told[0]
    assert told[0].startswith(f"steps are not replayed as a CUDA graph: {reason}")
    assert same_state(plain, dropped)
    assert dropped.state.decisions == {"graphs": {"replayed": False}}


def test_what_was_dropped_is_not_tried_again(
    tiny: Make, tmp_path: Path, no_plots: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StepGraph, "_record", failing)
    run, fields = tmp_path / "run", {"train.steps": 6, "train.compile": False}
    stopped = Trainer(tiny(fields), out=run, callbacks=[StopAt(3)])
    replaying(stopped)
    stopped.fit()
    told: list[str] = []
    resumed = Trainer(tiny(fields), out=run, resume=True)
    replaying(resumed, told)
    report = resumed.fit()
    assert told == [] and report["decisions"]["graphs"] == {"replayed": False} and len(read_lines(run)) == 6


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"loss.augment": ["color"]}, "augmentation draws on the host"),
        ({"loss.temperature_end": 2.0}, "an annealed temperature"),
        ({"model.name": "fusion", "model.fusion": "adain", "model.generator.layer": "relu2_1"}, "of full strength"),
    ],
    ids=["augment", "temperature", "fusion"],
)
def test_steps_that_cannot_be_replayed(
    tiny: Make, fields: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With auto nothing is said; where graphs were asked for, why there are none."""
    state = Trainer(tiny(fields), data=[]).state
    assert reason in str(unsupported_reason(tiny(fields), state.generator))
    told: list[str] = []
    gpu = torch.device("cuda")
    for expected in ("auto", True, False):
        config = tiny({**fields, "train.cuda_graphs": expected})
        assert cuda_graphs.make_graph_runner(config, state.generator, lambda: None, gpu, told.append) is None  # type: ignore
    assert len(told) == 1 and reason in told[0]


def test_only_on_a_gpu(tiny: Make) -> None:
    watch = Recorder()
    trainer = Trainer(tiny({"train.steps": 1}), data=[batch(0)], callbacks=[watch])
    trainer.fit()
    assert trainer.stepper.graph_runner is None and watch.of("on_message") == []
    with pytest.raises(InputError, match="graphs: true needs a GPU; use auto or false"):
        Trainer(tiny({"train.cuda_graphs": True}), data=[])
    made = cuda_graphs.make_graph_runner(tiny(), trainer.state.generator, lambda: None, torch.device("cuda"), print)  # type: ignore
    assert isinstance(made, CudaGraphRunner)
