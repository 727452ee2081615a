"""Prints processor, instruction sets, compilers and libraries, one a line: the head of a test log.

python tools/describe_machine.py
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

#: Those whose versions decide what the tests compute.
PACKAGES = ("torch", "triton", "numpy", "pillow", "scikit-image", "onnxruntime", "simplejpeg", "pytest", "hypothesis")
#: What holds a library down, or the suite.
VARIABLES = ("FASTGAN_", "OMP_", "MKL_", "ONEDNN_", "DNNL_", "ATEN_", "TORCH", "TRITON_", "KMP_", "CUDA_")


def first_line(*command: str) -> str:
    """The first line that a command prints; or that it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "not found"
    return (done.stdout or done.stderr).strip().partition("\n")[0] or "says nothing"


def processor() -> str:
    """Model name and the flags that kernels are chosen by, from /proc/cpuinfo."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    flags = [flag for flag in fields.get("flags", "").split() if flag.startswith(("avx", "amx", "fma", "f16c"))]
    return f"{fields.get('model name', platform.machine())}, {os.cpu_count()} cores: {' '.join(flags)}"


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def main() -> None:
    print(f"processor: {processor()}")
    print(f"system: {platform.platform()}, glibc {platform.libc_ver()[1]}, Python {platform.python_version()}")
    print(f"compiler: {first_line('g++', '--version')}")
    held = {name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)}
    print(f"environment: {' '.join(f'{name}={value}' for name, value in held.items()) or 'nothing is held down'}")
    print(f"packages: {', '.join(f'{name} {version(name)}' for name in PACKAGES)}")
    try:
        import torch

        from fastgan.ops import _native
    except ImportError as error:
        print(f"torch and the extension: not yet there ({error})")
        return
    print(f"torch: {torch.get_num_threads()} threads, capability {torch.backends.cpu.get_cpu_capability()}")
    print("libraries:", "; ".join(line.strip(" -") for line in torch.__config__.show().splitlines() if "Intel" in line))
    print(f"extension: {', '.join(f'{name} {value}' for name, value in sorted(_native.build_info().items()))}")
    print(f"GPU: {torch.cuda.get_device_name() if torch.cuda.is_available() else 'none'}")


if __name__ == "__main__":
    main()
