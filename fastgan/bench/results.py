"""A result: header and rows, as ``bench --json`` writes them, and reading one back."""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from fastgan.bench.ops.op_benchmark import TOLERANCES
from fastgan.bench.ops.third_party import PACKAGES
from fastgan.errors import InputError
from fastgan.ops import _native, report
from fastgan.version import __version__

ROW_KEYS = (
    "suite",
    "case",
    "provider",
    "device",
    "dtype",
    "ms_median",
    "ms_p20",
    "ms_p80",
    "gb_per_s",
    "gflop_per_s",
    "fraction_of_limit",
    "ratio_to_best_peer",
    "correct",
)
Row = dict[str, Any]
Result = dict[str, Any]


def header(device: str) -> dict[str, Any]:
    """Where and with what a result is made; the ceilings come in as they are measured."""
    packages = ("triton", "numpy", "onnxruntime", *PACKAGES)
    versions = {"fastgan": __version__, "python": platform.python_version(), "torch": torch.__version__}
    return {
        "machine": machine(device),
        "platform": platform.platform(),
        "device": device,
        "threads": torch.get_num_threads(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "ceilings": {},
        "versions": {**versions, **{name: found for name in packages if (found := installed_version(name))}},
        "extension": _native.build_info(),
        "backend_forced": report((device,))["forced"],
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "tolerances": {str(dtype).removeprefix("torch."): value for dtype, value in TOLERANCES.items()},
        "skipped": [],
        "complete": False,
    }


def machine(device: str) -> str:
    """The name of the GPU or of the CPU."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def commit() -> str | None:
    """The checkout's commit, `-dirty` where files differ from it; of an installed package the extension's commit."""
    root = Path(__file__).resolve().parents[2]
    if (root / ".git").exists():
        try:
            told = subprocess.run(
                ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
                cwd=root,
                capture_output=True,
                text=True,
                check=True,
            )
            return told.stdout.strip() or None
        except (OSError, subprocess.CalledProcessError):
            pass
    return _native.build_info().get("commit") or None


def read(path: Path, option: str) -> Result:
    """A result written before. Raises InputError, naming the option, for anything else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{option} {path}: no such file") from None
    except (OSError, ValueError):
        raise InputError(f"{option} {path}: cannot be read as JSON; give what fastgan bench --json wrote") from None
    rows = found.get("rows") if isinstance(found, dict) else None
    if not isinstance(rows, list) or not rows or not all(_is_row(row) for row in rows):
        raise InputError(f"{option} {path}: is no result of a benchmark; give what fastgan bench --json wrote")
    return found


def finish(result: Result, begin: float) -> None:
    """What a header says once a suite is done that began at ``begin`` of ``time.monotonic()``."""
    header = result["header"]
    header["seconds"] = round(header.get("seconds", 0.0) + time.monotonic() - begin, 1)
    header["complete"] = True


def key(row: Row) -> tuple[str, str, str, str, str]:
    """What tells rows apart."""
    return row["suite"], row["case"], row["dtype"], row["device"], row["provider"]


def to_text(result: Result) -> str:
    return json.dumps(result, indent=1, allow_nan=False) + "\n"


def rounded(value: float, digits: int = 5) -> float:
    """With that many significant digits."""
    return 0.0 if value == 0 else round(value, digits - 1 - math.floor(math.log10(abs(value))))


def installed_version(name: str) -> str | None:
    """Of a package; None where it is not there."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _is_row(row: object) -> bool:
    if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ROW_KEYS[:5]):
        return False
    median = row.get("ms_median")
    return isinstance(median, int | float) and not isinstance(median, bool) and 0 < median < math.inf
