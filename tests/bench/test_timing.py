"""Timing, errors and ceilings."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from fastgan.bench import timing
from fastgan.bench.ops.op_benchmark import OpCase, Workload
from fastgan.bench.ops.op_benchmarks import cases
from fastgan.bench.roofline import Ceilings
from fastgan.bench.timing import InputSet, TimingBudget
from fastgan.profiling import timer


@pytest.fixture
def case() -> OpCase:
    return next(iter(cases("psnr", "cpu", quick=True)))


class Clock:
    """In the place of the module ``time``, for the timing modules: it stands still but for what a test adds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        for module in (timing, timer):
            monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=self.read, monotonic=self.read))

    def read(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_rounds_are_interleaved_and_inputs_rotate(case: OpCase, clock: Clock) -> None:
    order: list[tuple[str, int]] = []

    def provider(name: str) -> timing.Function:
        def run(inputs: tuple[Tensor, ...]) -> Tensor:
            order.append((name, int(inputs[0])))
            clock.now += 0.002
            return inputs[0]

        return run

    sets = [InputSet((torch.tensor(float(number)),), None) for number in range(3)]
    functions = {name: provider(name) for name in "abc"}
    samples = timing.time_interleaved(case, functions, sets, TimingBudget(seconds=0.0, min_rounds=3, max_rounds=3))
    names = "".join(name for name, _ in order)
    assert names == "abc" + "abc" + "bca" + "cab"
    assert [number for name, number in order if name == "a"] == [0, 1, 2, 0]
    for sample in samples.values():
        assert (sample.p20, sample.median, sample.p80) == pytest.approx((2, 2, 2))


def test_short_calls_are_repeated_within_a_sample(case: OpCase, clock: Clock) -> None:
    calls = 0

    def run(inputs: tuple[Tensor, ...]) -> Tensor:
        nonlocal calls
        calls += 1
        clock.now += 2**-12
        return inputs[0]

    sets = [InputSet((torch.zeros(1),), None)]
    samples = timing.time_interleaved(case, {"a": run}, sets, TimingBudget(seconds=0.0, min_rounds=2, max_rounds=2))
    assert calls == 1 + 2 * 7  # 7 of them are the first to take 1.5 ms
    assert samples["a"].median == pytest.approx(1e3 * 2**-12)


def test_rounds_end_with_the_time(case: OpCase, clock: Clock) -> None:
    calls = 0

    def run(inputs: tuple[Tensor, ...]) -> Tensor:
        nonlocal calls
        calls += 1
        clock.now += 2**-4
        return inputs[0]

    sets = [InputSet((torch.zeros(1),), None)]
    timing.time_interleaved(case, {"a": run}, sets, TimingBudget(seconds=4.5 * 2**-4, min_rounds=1, max_rounds=10**9))
    assert calls == 1 + 5


def test_error_is_relative_to_the_largest() -> None:
    reference = [torch.tensor([100.0, 0.0], dtype=torch.float64), torch.tensor([2.0], dtype=torch.float64)]
    assert timing.max_relative_error([torch.tensor([100.0, 1.0]), torch.tensor([2.0])], reference) == pytest.approx(
        0.01
    )
    assert timing.max_relative_error([torch.tensor([100.0, 0.0]), torch.tensor([3.0])], reference) == pytest.approx(0.5)
    assert timing.max_relative_error([torch.tensor([100.0, math.nan]), torch.tensor([2.0])], reference) == math.inf
    assert timing.max_relative_error([torch.tensor([100.0]), torch.tensor([2.0])], reference) == math.inf


def test_gradients_are_checked_too() -> None:
    case = next(case for case in cases("psnr", "cpu", quick=True) if case.gradient)
    input_set = timing.input_sets(case, torch.zeros(()), few=True)[0]
    reference = timing.reference_result(case, input_set)
    assert len(reference) == 2 and reference[1].dtype == torch.float64

    def right_value_wrong_gradient(inputs: tuple[Tensor, ...]) -> Tensor:
        value = case.output(inputs, "reference")
        return value.detach() + 0 * inputs[0].sum()

    assert timing.max_relative_error(
        timing.call(case, right_value_wrong_gradient, input_set), reference
    ) == pytest.approx(1)
    assert timing.max_relative_error(timing.call(case, case.output, input_set), reference) < case.tolerance


def test_ceilings_keep_the_best() -> None:
    ceilings = Ceilings("cpu", quick=True)
    ceilings.measure()
    assert {"gemm_float32_gflop_per_s", "gemm_bfloat16_gflop_per_s", "copy_gb_per_s"} <= ceilings.values.keys()
    assert all(value > 0 for value in ceilings.values.values())
    ceilings.values.update(copy_gb_per_s=1e9, gemm_float32_gflop_per_s=1e9)
    ceilings.measure()
    assert ceilings.values["copy_gb_per_s"] == 1e9 and ceilings.values["gemm_float32_gflop_per_s"] == 1e9


def test_the_limit_is_the_longer_of_memory_and_arithmetic() -> None:
    ceilings = Ceilings("cpu", quick=True)
    ceilings.values = {"copy_gb_per_s": 10.0, "gemm_float32_gflop_per_s": 100.0, "gemm_bfloat16_gflop_per_s": 200.0}
    assert ceilings.min_seconds(Workload(10**9, 1.0, False), torch.float32) == pytest.approx(0.1)
    assert ceilings.min_seconds(Workload(1, 1e11, False), torch.bfloat16) == pytest.approx(1)
    assert ceilings.min_seconds(Workload(1, 1e11, True), torch.bfloat16) == pytest.approx(0.5)
    ceilings.values["fma_loop_float32_gflop_per_s"] = 150.0
    assert ceilings.gflop_per_s(torch.float32, True) == 150
