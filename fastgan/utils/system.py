"""The machine and the process: names, memory, versions, the checkout's commit."""

from __future__ import annotations

import contextlib
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch


def machine_name(device: torch.device) -> str:
    """The name of the GPU, or of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def peak_memory_bytes(device: torch.device) -> int:
    """The high-water mark of this process: of tensors on a GPU, else of resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError):
        # Unlike ru_maxrss, this does not begin at what the parent process had.
        match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
        if match:
            return int(match[1]) << 10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


class PeakMemory:
    """``peak_memory_bytes`` for every step: read in every tenth, since that takes some 0.1 ms, and kept between."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._calls = self._bytes = 0

    def __call__(self) -> int:
        """The high-water mark at most nine calls ago."""
        if self._calls % 10 == 0:
            self._bytes = peak_memory_bytes(self._device)
        self._calls += 1
        return self._bytes


def reset_peak_memory(device: torch.device) -> None:
    """Let ``peak_memory_bytes`` begin again at what is used now, where the system can do that."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):  # Linux lets the high-water mark fall to the resident memory
            Path("/proc/self/clear_refs").write_text("5")


def installed_version(package: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def git_commit(root: Path) -> str | None:
    """The commit of the checkout at ``root``, with ``-dirty`` where files differ from it; None outside a checkout."""
    if not (root / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None
