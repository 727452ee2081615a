"""What the machine can do at most: arithmetic and memory, measured.

Arithmetic is the larger of a loop of FMAs in registers (the extension's, on CPUs) and a matrix product; a product in
half precision is a ceiling for matrix products alone. Memory is a copy, counting bytes read and written. On a GPU,
float32 is IEEE float32, not TF32.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from fastgan.ops import _native

_HALVES = {"cpu": (torch.bfloat16,), "cuda": (torch.bfloat16, torch.float16)}


class Ceilings:
    """The best of every measurement so far: another process can only make a machine look slower."""

    def __init__(self, device: str, *, quick: bool = False) -> None:
        self.device = device
        self.values: dict[str, float] = {}
        self._quick = quick
        size = 128 if quick else 8192 if device == "cuda" else 1024
        self._products = {
            dtype: tuple(torch.randn(size, size, device=device).to(dtype) for _ in range(2))
            for dtype in (torch.float32, *_HALVES[device])
        }
        elements = 1 << 16 if quick else 1 << 28 if device == "cuda" else 1 << 25
        self._copied = torch.ones(elements, device=device), torch.empty(elements, device=device)

    def measure(self) -> None:
        """Measure all of them once more: about half a second on two cores."""
        for dtype, (a, b) in self._products.items():
            out = torch.empty_like(a)
            seconds = self._best(lambda a=a, b=b, out=out: torch.mm(a, b, out=out))  # type: ignore[misc]
            self._raise(f"gemm_{_short(dtype)}_gflop_per_s", 2 * a.shape[0] ** 3 / seconds / 1e9)
        if self.device == "cpu" and _native.unavailable_reason() is None and hasattr(_native.extension(), "fma_loop"):
            rate = _native.extension().fma_loop(torch.get_num_threads(), 2 if self._quick else 50)
            self._raise("fma_loop_float32_gflop_per_s", rate)
        source, target = self._copied
        moved = 2 * source.numel() * source.element_size()
        self._raise("copy_gb_per_s", moved / self._best(lambda: target.copy_(source)) / 1e9)

    def gflop_per_s(self, dtype: torch.dtype, matrix: bool) -> float:
        """The arithmetic ceiling of a case: anything but a matrix product computes in float32."""
        best = max(self.values["gemm_float32_gflop_per_s"], self.values.get("fma_loop_float32_gflop_per_s", 0.0))
        return max(best, self.values.get(f"gemm_{_short(dtype)}_gflop_per_s", 0.0)) if matrix else best

    def least_seconds(self, moved: int, operations: float, dtype: torch.dtype, matrix: bool) -> float:
        """A case's bytes at the copy's rate or its operations at the arithmetic's, whichever is longer.

        A case so small that it stays in a cache can be faster.
        """
        memory = moved / self.values["copy_gb_per_s"] / 1e9
        return max(memory, operations / self.gflop_per_s(dtype, matrix) / 1e9)

    def to_json(self) -> dict[str, float]:
        return {name: round(value, 2) for name, value in self.values.items()}

    def _raise(self, name: str, value: float) -> None:
        self.values[name] = max(value, self.values.get(name, 0.0))

    def _best(self, work: Callable[[], object]) -> float:
        return best_seconds(work, self.device, 2 if self._quick else 5)


def best_seconds(work: Callable[[], object], device: str, times: int) -> float:
    """The shortest time of `work`, warmed up before: another process can only make it longer."""
    work()
    return min(_once(work, device) for _ in range(times))


def _once(work: Callable[[], object], device: str) -> float:
    if device == "cuda":
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1e3
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
