"""The reference path and the fused path compute the same step, at every state of one run.

Two runs that start alike drift apart by chance: where a gradient is all rounding, Adam divides rounding by its own size
and moves the weight by the whole learning rate, either way. So what is compared is determined: from each state of one
trajectory, the losses and gradients of one step by either path.
"""

import copy
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch
from helpers.bounds import LAMBDA, rounding, unit
from helpers.machine import needs
from helpers.observed_step import SIDES, Make, Seen
from helpers.tiny_runs import batch
from torch import Tensor

from fastgan.config import Config
from fastgan.ops import _registry
from fastgan.training import Trainer

STEPS = 20
EVERY_LOSS = {"loss.tv": 0.3, "loss.psnr": 0.2, "loss.ssim": 0.7, "loss.content": 0.5, "loss.r1": 1.0}
#: The longest sums of the tiny networks: planes of 32 x 32 in the norms and losses.
LONGEST_SUM = 32 * 32


class Step(NamedTuple):
    """The results of one step from a state: losses and measures by name, and the gradients of both networks."""

    numbers: dict[str, float]
    gradients: dict[str, Tensor]


@contextmanager
def forced(backend: str) -> Iterator[set[str]]:
    """Every op by one backend where it has it; yields the backends that served, as ``op[backend]``."""
    used: set[str] = set()
    real = _registry.Backend.__call__

    def call(self: _registry.Backend, *args: Any) -> Any:
        used.add(f"{self.op}[{self.name}]")
        return real(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_registry.Backend, "__call__", call)
        patch.setattr(_registry, "_FORCED_TEXT", backend)
        patch.setattr(_registry, "_FORCED_ALL", backend)
        yield used


def step_from(trainer: Trainer, state: dict[str, Any], images: Tensor) -> Step:
    """One step of ``trainer`` from ``state``, which stays as it is."""
    trainer.state.load_state_dict(copy.deepcopy(state))
    seen = Seen(trainer, images)
    numbers = {name: float(value) for name, value in seen.metrics.items() if name.startswith(("loss/", "train/"))}
    return Step(numbers, {side: torch.cat([g.flatten() for g in seen.grads[side]]).double() for side in SIDES})


def rounded(state: dict[str, Any], seed: int) -> dict[str, Any]:
    """The state with every weight moved by a unit of rounding: what a step makes of that, any right step may make."""
    generator = torch.Generator().manual_seed(seed)
    values = copy.deepcopy(state)
    for side in SIDES:
        for name, weight in values[side].items():
            if weight.is_floating_point():
                values[side][name] = weight * (1 + unit(weight.dtype) * torch.randn(weight.shape, generator=generator))
    return values


def apart(one: Step, other: Step) -> dict[str, float]:
    """By loss, measure and network, the difference relative to its size (a loss below 0.05 counts as 0.05)."""
    differences = {
        name: abs(value - other.numbers[name]) / max(abs(value), 0.05) for name, value in one.numbers.items()
    }
    for side, gradient in one.gradients.items():
        differences[f"gradient/{side}"] = ((gradient - other.gradients[side]).norm() / gradient.norm()).item()
    return differences


def median(differences: list[dict[str, float]]) -> dict[str, float]:
    """The median over all states: in some, rounding moves a ReLU or a pooled maximum over its edge, which is a jump."""
    return {name: statistics.median(each[name] for each in differences) for name in differences[0]}


@needs("the extension")
def test_twenty_states(tiny: Make) -> None:
    def trainer(fields: dict[str, Any] | None = None) -> Trainer:
        config: Config = tiny({**EVERY_LOSS, "train.steps": STEPS, **(fields or {})})
        return Trainer(config)

    reference, native, off = trainer(), trainer(), trainer({"loss.ssim": 1.02 * EVERY_LOSS["loss.ssim"]})
    fused, by_rounding, by_fault = [], [], []
    for number in range(STEPS):
        state, images = reference.state.snapshot(), batch(number)
        with forced("reference") as by_reference:
            shifted = step_from(reference, rounded(state, number), images)
            expected = step_from(reference, state, images)  # the trajectory goes on from here
        with forced("native") as by_native:
            fused.append(apart(expected, step_from(native, state, images)))
            by_fault.append(apart(expected, step_from(off, state, images)))
        by_rounding.append(apart(expected, shifted))
        assert all(name.endswith("[reference]") for name in by_reference)
        assert {"ssim[native]", "psnr[native]", "gram_style_loss[native]", "instance_norm[native]"} <= by_native
    found, fault, moved = map(median, (fused, by_fault, by_rounding))
    # Each of two right paths is off by as much as a moved weight does, times LAMBDA for being a norm of many; a loss
    # adds the rounding of its own sum, which no weight moves.
    bounds = {name: LAMBDA * value + rounding(LONGEST_SUM) for name, value in moved.items()}
    assert {name: value for name, value in found.items() if value > bounds[name]} == {}
    assert fault["gradient/generator"] > 10 * bounds["gradient/generator"], "a gradient that is 2% off would pass"
