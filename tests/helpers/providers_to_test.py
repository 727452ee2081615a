"""Providers that a worker can open: a number, an error, a death. A call takes the time that it is told to."""

import os
from types import SimpleNamespace
from typing import Any

import torch

from fastgan.bench import worker_process
from fastgan.bench.worker_process import ReadyProvider


def make_provider(options: dict[str, Any]) -> ReadyProvider:
    print("noise on standard output")
    kind = options.get("kind", "number")
    if kind == "missing":
        import nowhere_to_be_found  # type: ignore[import-not-found]  # noqa: F401
    if kind == "fails":
        raise ValueError("no such thing\nat all")
    calls, now = 0, 0.0
    worker_process.time = SimpleNamespace(perf_counter=lambda: now)  # type: ignore[assignment]

    def call() -> None:
        nonlocal calls, now
        calls += 1
        if kind == "dies" and calls > 1:
            os._exit(3)
        if kind == "raises":
            raise RuntimeError("not today")
        now += 0.001 * options.get("ms", 1)

    return ReadyProvider({"value": torch.tensor(options.get("value", 1.0))}, call)
