"""The ops under pytest-benchmark, with the cases and providers of ``fastgan bench ops``.

    pytest benchmarks/ops/test_ssim.py [--device cuda] [--quick] [--benchmark-json FILE]

A function `test_OP` gets a run for each case and provider. pytest-benchmark measures one after the other: on a machine
whose speed swings, compare providers with ``fastgan bench ops``, which lets them take turns.
"""

import dataclasses
import itertools
from collections.abc import Callable
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

    def __call__(self, benchmark: Callable[..., Any]) -> None:
        with torch.no_grad():
            like = self.case.output(self.case.inputs(0), "reference")
        sets = timing.input_sets(self.case, like)
        functions, errors = suite.ready(self.case, sets[0], only=self.provider)
        if self.provider not in functions:
            pytest.skip(f"{self.provider} is not installed or cannot serve this case")
        error = errors[self.provider]
        if error > self.case.tolerance:
            wrong = pytest.fail if providers.is_fastgan(self.provider) else pytest.skip
            wrong(f"error {error:.2g} is above {self.case.tolerance}")
        turns = itertools.cycle(sets)
        benchmark.group = f"{self.case.name} {self.case.short_dtype} {self.case.suite}"  # type: ignore[attr-defined]

        def once() -> None:
            timing.call(self.case, functions[self.provider], next(turns))
            if self.case.device == "cuda":
                torch.cuda.synchronize()

        benchmark(once)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    device, quick = metafunc.config.getoption("--device", "cpu"), metafunc.config.getoption("--quick", False)
    op = metafunc.function.__name__.removeprefix("test_")
    runs = [
        Run(case, name)
        for case in op_benchmarks.cases(op, device, quick=quick)
        for name, _ in providers.providers(case)
    ]
    metafunc.parametrize("run", runs, ids=str)
