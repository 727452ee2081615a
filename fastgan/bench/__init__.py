"""Benchmarks: what ``fastgan bench`` runs, and ``python -m fastgan.bench`` where torch is all there is.

``fastgan.bench.step(size, batch, device)`` gives one training step for other programs to time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastgan.bench.networks.step_setup import step

__all__ = ["step"]


def __getattr__(name: str) -> Any:
    if name == "step":
        from fastgan.bench.networks.step_setup import step

        return step
    raise AttributeError(f"module 'fastgan.bench' has no attribute {name!r}")
