"""Clocks for one piece of work on a CPU or GPU."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def elapsed_seconds(work: Callable[[], object], device: str) -> float:
    """Seconds that ``work`` takes: wall time on a CPU, time between two events on a GPU."""
    if device == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def best_seconds(work: Callable[[], object], device: str, repeats: int) -> float:
    """The shortest of ``repeats`` runs of ``work`` after a warm-up: other processes can only lengthen a run."""
    work()
    return min(elapsed_seconds(work, device) for _ in range(repeats))
