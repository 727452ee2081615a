"""Timing in interleaved rounds, and the error of what is timed.

The speed of a shared machine varies by more than the differences of interest. So providers take turns: each round runs
every one of them once, in an order that rotates from round to round, and medians are compared.
"""

from __future__ import annotations

import dataclasses
import gc
import math
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fastgan.bench.ops.op_benchmark import OpCase
from fastgan.profiling.timer import elapsed_seconds
from fastgan.utils.statistics import quantile

#: A provider's function: a call is `function(inputs)`.
Function = Callable[[tuple[Tensor, ...]], Tensor]

#: Inputs rotate through sets that together do not fit a cache: bytes by device.
_ROTATED_BYTES = {"cpu": 96 << 20, "cuda": 384 << 20}
#: One sample takes at least this long: the clock and the loop around the call cost microseconds.
_SAMPLE_SECONDS = 1.5e-3


@dataclasses.dataclass(frozen=True)
class TimingBudget:
    """Limits of measuring a case: until `seconds` have passed, for `min_rounds` to `max_rounds` rounds."""

    seconds: float = 1.0
    min_rounds: int = 3
    max_rounds: int = 30


QUICK = TimingBudget(seconds=0.0, min_rounds=2, max_rounds=2)


@dataclasses.dataclass(frozen=True)
class Sample:
    """Milliseconds of one call."""

    median: float
    p20: float
    p80: float


@dataclasses.dataclass(frozen=True)
class InputSet:
    """Inputs of one call and, where the gradient is taken, a random gradient of the output."""

    inputs: tuple[Tensor, ...]
    grad_output: Tensor | None

    def clone(self, case: OpCase) -> InputSet:
        """A copy whose tensors that the case changes in place are its own."""
        mutated = case.benchmark.mutated
        inputs = (t.clone() if index in mutated else t for index, t in enumerate(self.inputs))
        return dataclasses.replace(self, inputs=tuple(inputs))


def input_sets(case: OpCase, like: Tensor, *, few: bool = False) -> list[InputSet]:
    """Sets of fresh inputs; `like` is the output of any set."""
    inputs = case.inputs(0)
    size = sum(tensor.numel() * tensor.element_size() for tensor in inputs)
    count = 2 if few else min(8, max(2, math.ceil(_ROTATED_BYTES[case.device] / size)))
    sets = []
    for seed in range(count):
        grad_output = None
        if case.gradient:
            rng = torch.Generator(case.device).manual_seed(1000 + seed)
            grad_output = torch.randn(like.shape, generator=rng, device=case.device).to(like.dtype)
            grad_output = case.to_layout(grad_output) if grad_output.dim() == 4 else grad_output
        sets.append(InputSet(inputs if seed == 0 else case.inputs(seed), grad_output))
    return sets


def call(case: OpCase, function: Function, input_set: InputSet) -> list[Tensor]:
    """The output, or what was changed in place; and for a gradient case the gradients of `wrt`."""
    if not case.gradient:
        with torch.no_grad():
            output = function(input_set.inputs)
        return [input_set.inputs[index] for index in case.benchmark.mutated] or [output]
    output = function(input_set.inputs)
    assert input_set.grad_output is not None
    start = (
        input_set.grad_output if input_set.grad_output.dtype == output.dtype else input_set.grad_output.to(output.dtype)
    )
    return [output, *torch.autograd.grad(output, [input_set.inputs[index] for index in case.benchmark.wrt], start)]


def reference_result(case: OpCase, input_set: InputSet) -> list[Tensor]:
    """The result of the reference in float64."""
    inputs64 = [t.detach().double() if t.is_floating_point() else t for t in input_set.inputs]
    if case.gradient:
        for index in case.benchmark.wrt:
            inputs64[index].requires_grad_()
    start = input_set.grad_output.double() if input_set.grad_output is not None else None
    case = dataclasses.replace(case, dtype=torch.float64)
    return call(case, lambda inputs: case.output(inputs, "reference"), InputSet(tuple(inputs64), start))


def max_relative_error(results: Sequence[Tensor], references: Sequence[Tensor]) -> float:
    """The largest difference between results and references, in units of the largest magnitude of each reference."""
    worst = 0.0
    for result, reference in zip(results, references, strict=True):
        if result.shape != reference.shape:
            return math.inf
        scale = max(reference.detach().double().abs().max().item(), 1e-30)
        error = (result.detach().double() - reference.detach().double()).abs().max().item() / scale
        worst = max(worst, error) if math.isfinite(error) else math.inf
    return worst


def time_interleaved(
    case: OpCase, functions: dict[str, Function], sets: list[InputSet], budget: TimingBudget
) -> dict[str, Sample]:
    """Time functions that were warmed up, in interleaved rounds."""
    position = dict.fromkeys(functions, 0)

    def seconds(name: str, count: int) -> float:
        begin = position[name]
        position[name] += count

        def loop() -> None:
            for number in range(begin, begin + count):
                call(case, functions[name], sets[number % len(sets)])

        return elapsed_seconds(loop, case.device) / count

    return interleave(list(functions), seconds, budget, sample_seconds=_SAMPLE_SECONDS)


def interleave(
    names: Sequence[str], seconds: Callable[[str, int], float], budget: TimingBudget, *, sample_seconds: float
) -> dict[str, Sample]:
    """Time providers in interleaved rounds.

    `seconds(name, count)` runs a provider `count` times and returns the seconds of one run; it is called once before
    the first round. A sample takes at least `sample_seconds`.
    """
    gc_was_enabled = gc.isenabled()
    gc.disable()
    try:
        once = {name: seconds(name, 1) for name in names}
        repeats = {name: min(500, max(1, math.ceil(sample_seconds / once[name]))) for name in names}
        times: dict[str, list[float]] = {name: [] for name in names}
        end = time.monotonic() + budget.seconds
        for turn in range(budget.max_rounds):
            if turn >= budget.min_rounds and time.monotonic() > end:
                break
            for index in range(len(names)):
                name = names[(index + turn) % len(names)]
                times[name].append(seconds(name, repeats[name]) * 1e3)
    finally:
        if gc_was_enabled:
            gc.enable()
    return {name: Sample(*(quantile(values, q) for q in (0.5, 0.2, 0.8))) for name, values in times.items()}
