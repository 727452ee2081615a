"""Lazy loader of the compiled extension `fastgan._C`, with an explained failure.

Nothing is loaded before the first call that may use it. torch comes first, always: its libgomp is then the one that the
extension finds, and the process has a single OpenMP runtime.
"""

import importlib.util
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

_loaded: tuple[ModuleType | None, str | None] | None = None


def _load() -> tuple[ModuleType | None, str | None]:
    global _loaded
    if _loaded is None:
        try:
            from fastgan import _C

            _loaded = _C, None
        except ImportError as error:
            if importlib.util.find_spec("fastgan._C") is None:
                _loaded = None, "is not available: fastgan._C is not built (build it with `pip install .`)"
            else:
                _loaded = None, f"is not available: fastgan._C does not load ({error})"
    return _loaded


def extension() -> ModuleType:
    """The extension; raises RuntimeError with the reason where it cannot be had."""
    module, reason = _load()
    if module is None:
        raise RuntimeError(f"the native backend {reason}")
    return module


def unavailable() -> str | None:
    """Why the extension cannot be used, or None when it can."""
    return _load()[1]


# What torch.compiler.assume_constant_result sets; that function imports the whole compiler. Tracing cannot follow an
# import that fails, so a compiled function must take this answer as it is.
unavailable._dynamo_marked_constant = True  # type: ignore[attr-defined]


def build_info() -> dict[str, Any]:
    """Version, commit, compiler, OpenMP, CPU targets and CUDA archs of the build; or `unavailable`: the reason."""
    module, reason = _load()
    return {"unavailable": reason} if module is None else dict(module.build_info())


def check_pair(x: Tensor, y: Tensor) -> None:
    """Guards the kernels' memory against direct calls of the registered ops, which pass no public function."""
    for tensor in (x, y):
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu" or tensor.dim() != 4 or tensor.numel() == 0:
            raise ValueError(
                f"expected non-empty float32 (N, C, H, W) tensors on CPU, got {tensor.dtype} "
                f"{tuple(tensor.shape)} on {tensor.device}"
            )
    if x.shape != y.shape:
        raise ValueError(f"expected equal shapes, got {tuple(x.shape)} and {tuple(y.shape)}")
