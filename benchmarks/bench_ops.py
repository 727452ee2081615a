"""The ops under pytest-benchmark, with the cases and providers of ``fastgan bench ops``.

    pytest benchmarks/bench_ops.py [-k ssim] [--device cuda] [--quick] [--benchmark-json FILE]

pytest-benchmark measures one provider after the other: on a machine whose speed varies, compare providers with
``fastgan bench ops``, which interleaves them.
"""

import dataclasses
import itertools
from typing import Any

import pytest
import torch

from fastgan.bench import timing
from fastgan.bench.ops import op_benchmarks, providers, suite
from fastgan.bench.ops.op_benchmark import OpCase


@dataclasses.dataclass(frozen=True)
class Run:
    """One provider in one case."""

    case: OpCase
    provider: str

    def __str__(self) -> str:
        return f"{self.case.name}-{self.case.short_dtype}-{self.case.suite}-{self.provider}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    device, quick = metafunc.config.getoption("--device"), metafunc.config.getoption("--quick")
    runs = [
        Run(case, name)
        for op in op_benchmarks.op_names()
        for case in op_benchmarks.cases(op, device, quick=quick)
        for name, _ in providers.providers(case)
    ]
    metafunc.parametrize("run", runs, ids=str)


def test_op(run: Run, benchmark: Any) -> None:
    case = run.case
    with torch.no_grad():
        like = case.output(case.inputs(0), "reference")
    sets = timing.input_sets(case, like)
    functions, errors = suite.ready(case, sets[0], only=run.provider)
    if run.provider not in functions:
        pytest.skip(f"{run.provider} is not installed or does not support this case")
    error = errors[run.provider]
    if error > case.tolerance:
        report = pytest.fail if providers.is_fastgan(run.provider) else pytest.skip
        report(f"error {error:.2g} is above {case.tolerance}")
    rotation = itertools.cycle(sets)
    benchmark.group = f"{case.name} {case.short_dtype} {case.suite}"

    def call() -> None:
        timing.call(case, functions[run.provider], next(rotation))
        if case.device == "cuda":
            torch.cuda.synchronize()

    benchmark(call)
