"""Launches of Triton kernels, with configurations from a table or from the tuner's cache.

Triton is not imported before the first launch. The kernels of an op are in `fastgan/ops/<op>/triton.py`; with
TRITON_INTERPRET=1 in the environment they run on CPU tensors, slowly, for tests.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastgan.ops._registry import Backend
from fastgan.utils.files import make_folder, write_text

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, on CPU tensors."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def unavailable_reason(device: str = "cuda") -> str | None:
    """Reason why Triton kernels cannot run on a device in this process, or None when they can."""
    if importlib.util.find_spec("triton") is None:
        return "is not available: Triton is not installed"
    if interpreted() or _recording is not None:
        return None
    if device != "cuda":
        return f"runs on cuda, not on {device}"
    return None if torch.cuda.is_available() else "is not available: torch finds no CUDA device"


# As in _native: torch.compile must take the answer as it is.
unavailable_reason._dynamo_marked_constant = True  # type: ignore[attr-defined]


def backend(
    op: str,
    function: Callable[..., Any],
    *,
    dtypes: tuple[torch.dtype, ...] = DTYPES,
    gradient_order: int | None = 1,
) -> Backend:
    """The Triton backend of an op."""
    return Backend(
        op, "triton", function, dtypes=dtypes, gradient_order=gradient_order, unavailable_reason=unavailable_reason
    )


def lazy(op: str, function: str) -> Callable[..., Any]:
    """A function of `fastgan.ops.<op>.triton`, imported at its first call: Triton takes long to import."""

    def call(*args: Any) -> Any:
        return getattr(importlib.import_module(f"fastgan.ops.{op}.triton"), function)(*args)

    return call


@dataclasses.dataclass(frozen=True)
class Config:
    """Compile options of a kernel: block sizes by constexpr parameter, warps and pipeline stages."""

    blocks: tuple[tuple[str, int], ...]
    num_warps: int = 4
    num_stages: int = 1

    def __getitem__(self, name: str) -> int:
        return dict(self.blocks)[name]

    def options(self) -> dict[str, int]:
        return {**dict(self.blocks), "num_warps": self.num_warps, "num_stages": self.num_stages}

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.options().items())


def config(num_warps: int = 4, num_stages: int = 1, **blocks: int) -> Config:
    return Config(tuple(sorted(blocks.items())), num_warps, num_stages)


@dataclasses.dataclass(frozen=True)
class Launch:
    """One launch of a kernel, with the configurations that serve it."""

    kernel: Any
    grid: Callable[[Config], tuple[int, ...]]
    arguments: tuple[Any, ...]
    constants: dict[str, Any]
    key: str
    choices: tuple[Config, ...]

    @property
    def name(self) -> str:
        return str(self.kernel.__name__)

    def run(self, config: Config) -> None:
        options = {**self.constants, **config.options(), "enable_fp_fusion": True}
        self.kernel[self.grid(config)](*self.arguments, **options)


#: The list that records launches, and whether they run as well.
_recording: tuple[list[Launch], bool] | None = None
_recording_lock = threading.Lock()


@contextmanager
def recorded(*, run: bool = False) -> Iterator[list[Launch]]:
    """Record launches within; they run only if `run` is set.

    Without `run` the Triton backends accept tensors of any device and return uninitialized tensors. For the tuner and
    ahead-of-time compilation: in one thread at a time, while no other calls ops.
    """
    global _recording
    launches: list[Launch] = []
    with _recording_lock:
        _recording = launches, run
        try:
            yield launches
        finally:
            _recording = None


def launch(
    kernel: Any,
    grid: Callable[[Config], tuple[int, ...]],
    arguments: Sequence[Any],
    *,
    choices: tuple[Config, ...],
    key: tuple[Any, ...] = (),
    **constants: Any,
) -> None:
    """Launch a kernel on the current stream of its tensors' device.

    `choices` are the configurations that serve these arguments, the default first; `key` has what the best of
    them depends on (size classes, layout, dtype): the tuner keeps one choice for each kernel and key. `arguments` are
    positional and `constants` by name; what is a block size in the configuration is in neither.
    """
    request = Launch(kernel, grid, tuple(arguments), constants, "/".join(map(str, key)), choices)
    if _recording is not None:
        launches, run = _recording
        launches.append(request)
        if not run:
            return
    device = next(argument.device for argument in arguments if isinstance(argument, Tensor))
    if device.type == "cpu":
        request.run(choices[0])
        return
    with torch.cuda.device(device):
        request.run(_tuned(request, device))


def _tuned(request: Launch, device: torch.device) -> Config:
    cached = _cache(device.index or 0).get(f"{request.name}:{request.key}")
    return cached if cached in request.choices else request.choices[0]


def cache_file(device_name: str) -> Path:
    """The file with the tuner's choices for a GPU."""
    root = os.environ.get("FASTGAN_CACHE") or Path(
        os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "fastgan"
    )
    return Path(root, "triton", re.sub(r"[^A-Za-z0-9]+", "-", device_name).strip("-").lower() + ".json")


@functools.cache
def _cache(index: int) -> dict[str, Config]:
    """The tuner's choices for a GPU; read once a process. A file that cannot be read counts as none."""
    return read_cache(cache_file(torch.cuda.get_device_name(index)))


def read_cache(path: Path) -> dict[str, Config]:
    try:
        rows = json.loads(path.read_text())["choices"]
        return {name: config(row.pop("num_warps"), row.pop("num_stages"), **row) for name, row in rows.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def write_cache(path: Path, choices: dict[str, Config], about: dict[str, Any]) -> None:
    """Merge choices into the file, which is replaced atomically."""
    merged = {**read_cache(path), **choices}
    make_folder(path.parent)
    rows = {name: config.options() for name, config in sorted(merged.items())}
    write_text(path, json.dumps({**about, "choices": rows}, indent=1) + "\n")
    _cache.cache_clear()


def cdiv(a: int, b: int) -> int:
    return -(-a // b)


def next_power_of_2(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()
