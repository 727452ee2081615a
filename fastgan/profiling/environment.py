"""Machine, versions and commit of a measurement."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fastgan.ops import _native, report
from fastgan.utils.system import git_commit, installed_version, machine_name
from fastgan.version import __version__

_PACKAGES = ("triton", "numpy", "onnxruntime")


def describe_environment(device: torch.device, packages: Sequence[str] = ()) -> dict[str, Any]:
    """Machine, versions, extension, commit and date; ``packages`` are further ones whose versions matter."""
    versions = {"fastgan": __version__, "python": platform.python_version(), "torch": torch.__version__}
    installed = {name: installed_version(name) for name in (*_PACKAGES, *packages)}
    return {
        "machine": machine_name(device),
        "platform": platform.platform(),
        "device": device.type,
        "threads": torch.get_num_threads(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "versions": {**versions, **{name: version for name, version in installed.items() if version}},
        "extension": _native.build_info(),
        "backend_forced": report((device.type,))["forced"],
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def commit() -> str | None:
    """The commit of the checkout; for an installed package, the commit that the extension was built from."""
    return git_commit(Path(__file__).resolve().parents[2]) or _native.build_info().get("commit") or None
