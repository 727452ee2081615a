"""Timing in interleaved rounds, and the check that what is timed is right.

The speed of a shared machine swings by more than the differences that are sought. So providers take turns: each round
runs every one of them once, in an order that moves on from round to round, and medians are compared.
"""

from __future__ import annotations

import dataclasses
import gc
import math
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fastgan.bench.ops.op_benchmark import Case
from fastgan.profiling.timer import elapsed_seconds
from fastgan.utils.statistics import quantile

#: A call gets its result by `function(inputs)`.
Function = Callable[[tuple[Tensor, ...]], Tensor]

#: Inputs rotate through sets that together do not fit a cache: bytes by device.
_SPREAD = {"cpu": 96 << 20, "cuda": 384 << 20}
#: One sample takes at least this long: the clock and the loop around the call cost microseconds.
_SAMPLE_SECONDS = 1.5e-3


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long a case is measured: rounds until `seconds` have passed, at least `least` and at most `most`."""

    seconds: float = 1.0
    least: int = 3
    most: int = 30


QUICK = Effort(seconds=0.0, least=2, most=2)


@dataclasses.dataclass(frozen=True)
class Sample:
    """Milliseconds of one call."""

    median: float
    p20: float
    p80: float


@dataclasses.dataclass(frozen=True)
class InputSet:
    """Inputs of one call, and for the gradient what it starts from: random numbers like the output."""

    inputs: tuple[Tensor, ...]
    cotangent: Tensor | None

    def copied(self, case: Case) -> InputSet:
        """With what the case changes in place to change once more."""
        written = case.spec.written
        inputs = (t.clone() if index in written else t for index, t in enumerate(self.inputs))
        return dataclasses.replace(self, inputs=tuple(inputs))


def input_sets(case: Case, like: Tensor, *, few: bool = False) -> list[InputSet]:
    """Sets of fresh inputs; `like` is the output of any set."""
    first = case.inputs(0)
    size = sum(tensor.numel() * tensor.element_size() for tensor in first)
    count = 2 if few else min(8, max(2, math.ceil(_SPREAD[case.device] / size)))
    sets = []
    for seed in range(count):
        cotangent = None
        if case.gradient:
            rng = torch.Generator(case.device).manual_seed(1000 + seed)
            drawn = torch.randn(like.shape, generator=rng, device=case.device).to(like.dtype)
            cotangent = case.laid_out(drawn) if drawn.dim() == 4 else drawn
        sets.append(InputSet(first if seed == 0 else case.inputs(seed), cotangent))
    return sets


def call(case: Case, function: Function, given: InputSet) -> list[Tensor]:
    """The output, or what was changed in place; and for a gradient case the gradients of `wrt`."""
    if not case.gradient:
        with torch.no_grad():
            output = function(given.inputs)
        return [given.inputs[index] for index in case.spec.written] or [output]
    output = function(given.inputs)
    assert given.cotangent is not None
    start = given.cotangent if given.cotangent.dtype == output.dtype else given.cotangent.to(output.dtype)
    return [output, *torch.autograd.grad(output, [given.inputs[index] for index in case.spec.wrt], start)]


def expected(case: Case, given: InputSet) -> list[Tensor]:
    """What the reference gives in float64."""
    wide = [t.detach().double() if t.is_floating_point() else t for t in given.inputs]
    if case.gradient:
        for index in case.spec.wrt:
            wide[index].requires_grad_()
    start = given.cotangent.double() if given.cotangent is not None else None
    case = dataclasses.replace(case, dtype=torch.float64)
    return call(case, lambda inputs: case.output(inputs, "reference"), InputSet(tuple(wide), start))


def error(results: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    """The largest difference between results and truth, each in units of the largest magnitude of its truth."""
    worst = 0.0
    for result, right in zip(results, truth, strict=True):
        if result.shape != right.shape:
            return math.inf
        scale = max(right.detach().double().abs().max().item(), 1e-30)
        off = (result.detach().double() - right.detach().double()).abs().max().item() / scale
        worst = max(worst, off) if math.isfinite(off) else math.inf
    return worst


def interleaved(case: Case, functions: dict[str, Function], sets: list[InputSet], effort: Effort) -> dict[str, Sample]:
    """Time every function, warmed up before, in turns."""
    position = dict.fromkeys(functions, 0)

    def seconds(name: str, count: int) -> float:
        begin = position[name]
        position[name] += count

        def loop() -> None:
            for number in range(begin, begin + count):
                call(case, functions[name], sets[number % len(sets)])

        return elapsed_seconds(loop, case.device) / count

    return in_turns(list(functions), seconds, effort, sample_seconds=_SAMPLE_SECONDS)


def in_turns(
    names: Sequence[str], seconds: Callable[[str, int], float], effort: Effort, *, sample_seconds: float
) -> dict[str, Sample]:
    """The rounds themselves. `seconds(name, count)` runs a provider that often and gives the seconds of one time; it is
    called once before the first round. A sample takes at least `sample_seconds`.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        once = {name: seconds(name, 1) for name in names}
        repeats = {name: min(500, max(1, math.ceil(sample_seconds / once[name]))) for name in names}
        times: dict[str, list[float]] = {name: [] for name in names}
        end = time.monotonic() + effort.seconds
        for turn in range(effort.most):
            if turn >= effort.least and time.monotonic() > end:
                break
            for place in range(len(names)):
                name = names[(place + turn) % len(names)]
                times[name].append(seconds(name, repeats[name]) * 1e3)
    finally:
        if collecting:
            gc.enable()
    return {name: Sample(*(quantile(of_one, q) for q in (0.5, 0.2, 0.8))) for name, of_one in times.items()}
