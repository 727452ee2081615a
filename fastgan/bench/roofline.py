"""Peak arithmetic and memory bandwidth, measured.

Arithmetic is the faster of a loop of FMAs in registers (the extension's, on CPUs) and a matrix product; a product in
half precision is a ceiling for matrix products alone. Memory is a copy, counting bytes read and written. On a GPU,
float32 is IEEE float32, not TF32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from fastgan.bench.ops.op_benchmark import Workload
from fastgan.ops import _native
from fastgan.profiling.timer import best_seconds
from fastgan.utils.format import dtype_name

_HALVES = {"cpu": (torch.bfloat16,), "cuda": (torch.bfloat16, torch.float16)}


class Ceilings:
    """The best of all measurements so far: another process can only make a machine look slower."""

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
        self._copy_buffers = torch.ones(elements, device=device), torch.empty(elements, device=device)

    def measure(self) -> None:
        """Measure all of them again: about half a second on two cores."""
        for dtype, (a, b) in self._products.items():
            out = torch.empty_like(a)
            seconds = self._best_seconds(lambda a=a, b=b, out=out: torch.mm(a, b, out=out))  # type: ignore[misc]
            self._update(f"gemm_{dtype_name(dtype)}_gflop_per_s", 2 * a.shape[0] ** 3 / seconds / 1e9)
        if self.device == "cpu" and _native.unavailable_reason() is None and hasattr(_native.extension(), "fma_loop"):
            rate = _native.extension().fma_loop(torch.get_num_threads(), 2 if self._quick else 50)
            self._update("fma_loop_float32_gflop_per_s", rate)
        source, target = self._copy_buffers
        moved = 2 * source.numel() * source.element_size()
        self._update("copy_gb_per_s", moved / self._best_seconds(lambda: target.copy_(source)) / 1e9)

    def gflop_per_s(self, dtype: torch.dtype, matrix: bool) -> float:
        """The arithmetic ceiling of a case: all but matrix products compute in float32."""
        best = max(self.values["gemm_float32_gflop_per_s"], self.values.get("fma_loop_float32_gflop_per_s", 0.0))
        return max(best, self.values.get(f"gemm_{dtype_name(dtype)}_gflop_per_s", 0.0)) if matrix else best

    def min_seconds(self, workload: Workload, dtype: torch.dtype) -> float:
        """The longer of moving the bytes and computing the operations of a case, at the ceilings.

        A case that fits in a cache can be faster.
        """
        memory = workload.bytes_moved / self.values["copy_gb_per_s"] / 1e9
        return max(memory, workload.operations / self.gflop_per_s(dtype, workload.matrix) / 1e9)

    def to_json(self) -> dict[str, float]:
        return {name: round(value, 2) for name, value in self.values.items()}

    def _update(self, name: str, value: float) -> None:
        self.values[name] = max(value, self.values.get(name, 0.0))

    def _best_seconds(self, work: Callable[[], object]) -> float:
        return best_seconds(work, self.device, 2 if self._quick else 5)
