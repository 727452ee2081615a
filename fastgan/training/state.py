"""Everything that a training run changes, as one object that can be saved."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from fastgan.training.collapse import CollapseAlarm
from fastgan.training.controller import Controller


@dataclass
class Best:
    """The best measurement so far: its score (lower is better), its step, the weights of the averaged generator then,
    and how many measurements since were no better."""

    score: float
    step: int
    ema: dict[str, Any]
    evals_without_gain: int = 0


@dataclass
class TrainState:
    """Networks, EMA, optimizers, scalers, controller, alarm, random state, steps and seconds trained; the number of
    threads of the run (nothing here sets torch's); the decisions by timing; what the run is made from (``run_inputs``),
    and the step and text of each change of it.

    A training step is a function of this and a batch.
    """

    generator: Any
    discriminator: Any
    ema: Any
    optimizer_g: torch.optim.Optimizer
    optimizer_d: torch.optim.Optimizer
    scaler_g: torch.amp.GradScaler
    scaler_d: torch.amp.GradScaler
    controller: Controller | None
    alarm: CollapseAlarm | None
    rng: torch.Generator
    global_step: int = 0
    train_seconds: float = 0.0
    lr_scale: float = 1.0
    rollbacks: int = 0
    best: Best | None = None
    alarms: list[tuple[int, str]] = field(default_factory=list)
    threads: int = field(default_factory=torch.get_num_threads)
    decisions: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    changes: list[tuple[int, str]] = field(default_factory=list)
    best_generator: Any = field(default=None, repr=False)
    _parts: tuple[str, ...] = field(
        default=("generator", "discriminator", "ema", "optimizer_g", "optimizer_d", "scaler_g", "scaler_d"), repr=False
    )

    def state_dict(self) -> dict[str, Any]:
        """Tensors (shared with the live state) and plain values; ``torch.load(weights_only=True)`` reads it back."""
        values: dict[str, Any] = {name: getattr(self, name).state_dict() for name in self._parts}
        values["controller"] = None if self.controller is None else self.controller.state_dict()
        values["alarm"] = None if self.alarm is None else self.alarm.state_dict()
        values["rng"] = self.rng.get_state()
        values["global_step"] = self.global_step
        values["train_seconds"] = self.train_seconds
        values["lr_scale"] = self.lr_scale
        values["rollbacks"] = self.rollbacks
        values["alarms"] = list(self.alarms)
        values["best"] = None if self.best is None else dict(vars(self.best))
        values["threads"] = self.threads
        values["decisions"] = copy.deepcopy(self.decisions)
        values["inputs"] = copy.deepcopy(self.inputs)
        values["changes"] = list(self.changes)
        return values

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Take up what ``state_dict`` gave; the optimizers' settings stay this object's own.

        Raises:
            RuntimeError, KeyError or ValueError: networks or kinds of optimizer differ.
        """
        for name in self._parts:
            part = getattr(self, name)
            if isinstance(part, torch.optim.Optimizer):
                _load_optimizer(part, values[name], name)
            else:
                part.load_state_dict(values[name])
        if self.controller is not None and values["controller"] is not None:
            self.controller.load_state_dict(values["controller"])
        if self.alarm is not None and values.get("alarm") is not None:
            self.alarm.load_state_dict(values["alarm"])
        self.rng.set_state(values["rng"].cpu())
        self.global_step = int(values["global_step"])
        self.train_seconds = float(values["train_seconds"])
        self.lr_scale = float(values["lr_scale"])
        self.rollbacks = int(values["rollbacks"])
        self.alarms = [(int(step), str(text)) for step, text in values.get("alarms", ())]
        self.best = None if values.get("best") is None else Best(**values["best"])
        self.threads = int(values["threads"])
        self.decisions = copy.deepcopy(values.get("decisions", {}))
        self.inputs = copy.deepcopy(values.get("inputs", {}))
        self.changes = [(int(step), str(text)) for step, text in values.get("changes", ())]

    def is_finite(self) -> bool:
        """True while every parameter of both networks is finite."""
        parameters = itertools.chain(self.generator.parameters(), self.discriminator.parameters())
        return bool(torch.stack([parameter.detach().abs().max().float() for parameter in parameters]).isfinite().all())

    def update_best(self, score: float) -> None:
        """Record an evaluation of the averaged generator as it is now; lower is better."""
        if self.best is None or score < self.best.score:
            weights = {name: value.detach().clone() for name, value in self.ema.state_dict().items()}
            self.best = Best(score, self.global_step, weights)
        else:
            self.best.evals_without_gain += 1

    @property
    def export_generator(self) -> Any:
        """The generator of samples, evaluations and models: the averaged one, or at the end the best one."""
        return self.ema if self.best_generator is None else self.best_generator

    def use_best(self) -> None:
        """Make ``export_generator`` the generator of the best evaluation."""
        if self.best is not None and self.best.step != self.global_step:
            self.best_generator = copy.deepcopy(self.ema)
            self.best_generator.load_state_dict(self.best.ema)

    def snapshot(self) -> dict[str, Any]:
        """A copy of ``state_dict`` that later steps do not change."""
        return copy.deepcopy(self.state_dict())


def _load_optimizer(optimizer: torch.optim.Optimizer, values: dict[str, Any], name: str) -> None:
    settings = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    if [set(group) - {"params"} for group in values["param_groups"]] != [set(group) for group in settings]:
        raise ValueError(f"its {name} is another kind than {type(optimizer).__name__}; leave optim.*.name as it was")
    optimizer.load_state_dict(values)
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        # The checkpoint's would take their place, and a changed beta be ignored. The rate is set in every step.
        group.update({key: value for key, value in own.items() if key != "lr"})


def check_ownership(optimizer: torch.optim.Optimizer, network: nn.Module, name: str) -> None:
    """Raise RuntimeError unless ``optimizer`` updates exactly the parameters of ``network``."""
    owned = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    expected = {id(parameter) for parameter in network.parameters()}
    if owned != expected:
        raise RuntimeError(
            f"the {name}'s optimizer updates {len(owned & expected)} of its {len(expected)} parameters "
            f"and {len(owned - expected)} of others"
        )
