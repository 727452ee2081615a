"""The training step and a picture under pytest-benchmark, with the cases and providers of ``fastgan bench train`` and
``fastgan bench infer``.

    pytest benchmarks/bench_networks.py [-k step] [--device cuda] [--quick] [--benchmark-json FILE]

One provider is measured after the other, all in one process: on a machine whose speed varies, and for memory, use
``fastgan bench train``, which gives each a process and interleaves them.
"""

import importlib
from typing import Any

import pytest
import torch

from fastgan.bench.harness import BenchmarkPlan, Provider
from fastgan.bench.networks import infer, train


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    device, quick = metafunc.config.getoption("--device"), metafunc.config.getoption("--quick")
    plans = [suite.plan(device, quick=quick) for suite in (train, infer)]
    runs = [(plan, provider) for plan in plans for provider in plan.providers]
    metafunc.parametrize("plan,provider", runs, ids=[f"{plan.case}-{provider.label}" for plan, provider in runs])


def test_network(plan: BenchmarkPlan, provider: Provider, benchmark: Any) -> None:
    torch.compiler.reset()
    options = {**provider.options, "device": plan.device, "dtype": provider.dtype}
    try:
        ready = importlib.import_module(plan.module).make_provider(options)
    except ImportError as error:
        pytest.skip(f"needs {error.name}")
    benchmark.group = plan.case

    def call() -> None:
        ready.call()
        if plan.device == "cuda":
            torch.cuda.synchronize()

    benchmark.pedantic(call, rounds=5, warmup_rounds=1)
