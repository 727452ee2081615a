"""The whole step and a picture under pytest-benchmark, with the cases and providers of ``fastgan bench train`` and
``fastgan bench infer``.

    pytest benchmarks/train [--device cuda] [--quick] [--benchmark-json FILE]

One provider is measured after the other, all in one process: on a machine whose speed swings, and for memory, take
``fastgan bench train``, where they have processes of their own and take turns.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fastgan.bench import harness
from fastgan.bench.networks import infer, train


@dataclasses.dataclass(frozen=True)
class Run:
    """One provider in one case."""

    case: str
    device: str
    provider: harness.Provider
    open: Callable[[dict[str, Any]], Any]

    def __str__(self) -> str:
        return f"{self.case}-{self.provider.label}"

    def __call__(self, benchmark: Callable[..., Any]) -> None:
        torch.compiler.reset()
        options = {**self.provider.options, "device": self.device, "dtype": self.provider.dtype}
        try:
            opened = self.open(options)
        except ImportError as error:
            pytest.skip(f"needs {error.name}")
        benchmark.group = self.case  # type: ignore[attr-defined]

        def once() -> None:
            opened.call()
            if self.device == "cuda":
                torch.cuda.synchronize()

        benchmark.pedantic(once, rounds=5, warmup_rounds=1)  # type: ignore[attr-defined]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    device, quick = metafunc.config.getoption("--device", "cpu"), metafunc.config.getoption("--quick", False)
    case = train.case_of(device, quick=quick)
    if metafunc.function.__name__ == "test_step":
        of_suite = [Run(case.name, device, each, train.make_provider) for each in train.providers(case, not quick)]
    else:
        size = infer.size_of(quick=quick)
        made = infer.providers(device, size, not quick)
        of_suite = [Run(infer.case_of(size), device, each, infer.make_provider) for each in made]
    metafunc.parametrize("run", of_suite, ids=str)
