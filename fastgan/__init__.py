"""fastgan: train GAN image style transfer fast, to a quality you name.

``fastgan.Trainer(config).fit()`` trains, ``fastgan.load(path)(image)`` stylizes; ``fastgan.ops``, ``fastgan.models``,
``fastgan.losses`` and ``fastgan.metrics`` are the parts. Each is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fastgan.version import __version__

if TYPE_CHECKING:
    from fastgan import (
        bench,
        config,
        data,
        errors,
        evaluation,
        inference,
        losses,
        metrics,
        models,
        ops,
        precision,
        profiling,
        training,
    )
    from fastgan.inference import load
    from fastgan.training import Trainer

_LAZY = {"Trainer": "fastgan.training", "load": "fastgan.inference"}

__all__ = [
    "Trainer",
    "__version__",
    "bench",
    "config",
    "data",
    "errors",
    "evaluation",
    "inference",
    "load",
    "losses",
    "metrics",
    "models",
    "ops",
    "precision",
    "profiling",
    "training",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in __all__:
        return importlib.import_module(f"fastgan.{name}")
    raise AttributeError(f"module 'fastgan' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
