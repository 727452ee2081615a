"""The needs of a test, and the one way to skip a test that cannot have it.

``needs("a GPU")`` marks a test, ``require("a GPU")`` skips from within one. Every skip of the suite comes from here:
``helpers/skips.py`` counts them by need at the end of a run, and fails the run for a skip with another reason.
"""

import functools
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from PIL import features

from fastgan.ops import _native

SHARED = Path(__file__).resolve().parents[3] / "shared"
_PREFIX = "needs "

Absence = Callable[[], str | None]


def _gpu() -> str | None:
    return None if torch.cuda.is_available() else "torch finds no CUDA device"


def _no_gpu() -> str | None:
    return "there is one" if torch.cuda.is_available() else None


def _extension(device: str) -> str | None:
    reason = _native.unavailable_reason(device)
    return None if reason is None else f"it {reason}"


def _conv2d(dtype: torch.dtype) -> str | None:
    """The instruction set that the native convolutions of a dtype need; the processor or FASTGAN_CPU_LEVEL decides."""
    if reason := _extension("cpu"):
        return reason
    if _native.extension().conv2d_serves(_native.dtype_code(dtype)):
        return None
    return f"there are none at CPU level {_native.build_info()['cpu_level']}"


def _package(name: str) -> str | None:
    return None if importlib.util.find_spec(name) else "it is not installed"


def _program(name: str) -> str | None:
    return None if shutil.which(name) else "it is not on PATH"


def _compiler() -> str | None:
    """The needs of torch.compile on a CPU: CXX or g++, and Python's headers."""
    header = Path(sysconfig.get_path("include")) / "Python.h"
    return _program(os.environ.get("CXX", "g++").split()[0]) or (None if header.exists() else f"there is no {header}")


def _vector_code() -> str | None:
    """AVX2 or more, as the processor or ATEN_CPU_CAPABILITY has it: without, torch 2.14 cannot compile a transpose."""
    level = torch.backends.cpu.get_cpu_capability()
    return f"torch runs at the level {level}" if level == "DEFAULT" else None


def _simplejpeg() -> str | None:
    if reason := _package("simplejpeg"):
        return reason
    return None if features.check_feature("libjpeg_turbo") else "Pillow decodes by another libjpeg"


def _lanczos() -> str | None:
    return None if hasattr(torch.ops.aten, "_upsample_lanczos2d_aa") else f"torch {torch.__version__} has none"


def _folder(path: Path) -> str | None:
    return None if path.is_dir() else f"there is no {path}"


def _file(path: str) -> str | None:
    return None if Path(path).exists() else "this system has none"


def _x86_flags() -> str | None:
    """Elsewhere the file has other names for what a processor has."""
    return _file("/proc/cpuinfo") if platform.machine() == "x86_64" else f"this is {platform.machine()}"


def _address_space() -> str | None:
    try:
        torch.empty(5 << 30, dtype=torch.uint8)
    except RuntimeError as error:
        return f"torch says: {str(error).splitlines()[0]}"
    return None


def _interpreter() -> str | None:
    """The last line of what the probe says of this Triton with this NumPy."""
    probe = Path(__file__).with_name("interpreter_probe.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, str(probe)], env=environment, capture_output=True, text=True)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it ends at once"])[-1]


#: Why a need is not met here, or None where it is. Predicates are evaluated when a test asks, not at import.
NEEDS: dict[str, Absence] = {
    "a GPU": _gpu,
    "no GPU": _no_gpu,
    "the extension": lambda: _extension("cpu"),
    "the extension on a GPU": lambda: _gpu() or _extension("cuda"),
    "native convolutions in float32": lambda: _conv2d(torch.float32),
    "native convolutions in bfloat16": lambda: _conv2d(torch.bfloat16),
    "development data": lambda: _folder(SHARED / "data"),
    "weights to compare with": lambda: _folder(SHARED / "weights"),
    "/proc/self/maps": lambda: _file("/proc/self/maps"),
    "/proc/cpuinfo of an x86-64 processor": _x86_flags,
    "loops in Triton's interpreter (Triton 3.6 needs NumPy < 2.4)": _interpreter,
    "g++": lambda: _program("g++"),
    "a compiler for torch.compile": _compiler,
    "torch's vector code": _vector_code,
    "5 GiB of address space": _address_space,
    "tar": lambda: _program("tar"),
    "simplejpeg on Pillow's libjpeg-turbo": _simplejpeg,
    "torch's Lanczos": _lanczos,
}
#: Hardware, and what torch's version decides: what FASTGAN_TESTS_COMPLETE, which says that all packages are installed,
#: lets be missing.
PLATFORM = {
    "a GPU",
    "no GPU",
    "/proc/cpuinfo of an x86-64 processor",
    "the extension on a GPU",
    "native convolutions in float32",
    "native convolutions in bfloat16",
    "torch's Lanczos",
    "torch's vector code",
}


@functools.cache
def absence(need: str) -> str | None:
    """Why this machine does not have ``need``, or None when it has."""
    name, _, package = need.partition("the package ")
    return _package(package) if not name and package else NEEDS[need]()


def needs(*expected: str) -> pytest.MarkDecorator:
    """Skips a test where one of its needs is not met; for parameters too, as ``marks=``."""
    missing = [f"{_PREFIX}{need}: {reason}" for need in expected if (reason := absence(need))]
    return pytest.mark.skipif(bool(missing), reason="; ".join(missing) or "nothing is missing")


def require(*expected: str) -> None:
    """Skips the test that calls it where one of its needs is not met."""
    for need in expected:
        if reason := absence(need):
            pytest.skip(f"{_PREFIX}{need}: {reason}")


def need_of(reason: str) -> str | None:
    """The need behind a skip's reason, if ``needs`` or ``require`` wrote it and it is unmet; else None."""
    text = reason.removeprefix("Skipped: ")
    if not text.startswith(_PREFIX):
        return None
    need = text.removeprefix(_PREFIX).partition(":")[0]
    known = need in NEEDS or need.startswith("the package ")
    return need if known and absence(need) else None


def count_skips(reasons: Iterable[str]) -> tuple[Counter[str], list[str]]:
    """Skips by need, and the reasons that no unmet need explains."""
    counts: Counter[str] = Counter()
    unexplained: list[str] = []
    for reason in reasons:
        need = need_of(reason)
        if need is None:
            unexplained.append(reason)
        else:
            counts[need] += 1
    return counts, unexplained
