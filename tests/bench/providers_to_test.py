"""Providers that a worker can open: a number, an error, a death."""

import os
import time
from typing import Any

import torch

from fastgan.bench.workers import Opened


def open_provider(options: dict[str, Any]) -> Opened:
    print("noise on standard output")
    kind = options.get("kind", "number")
    if kind == "missing":
        import nowhere_to_be_found  # noqa: F401
    if kind == "fails":
        raise ValueError("no such thing\nat all")
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        if kind == "dies" and calls > 1:
            os._exit(3)
        if kind == "raises":
            raise RuntimeError("not today")
        time.sleep(0.001 * options.get("ms", 1))

    return Opened({"value": torch.tensor(options.get("value", 1.0))}, call)
