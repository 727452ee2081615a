"""Ahead-of-time compilation of Triton kernels for GPUs that are not present, and the resources of each kernel.

A launch is recorded instead of run, and compiled as it would be then: with the same constants, and with integers that
are 1 or divisible by 16 treated as such.
"""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastgan.errors import InputError
from fastgan.ops import _triton

#: Compute capabilities without the point: Ampere, Hopper, data-center and consumer Blackwell.
ARCHS = (80, 90, 100, 120)

_POINTERS = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.float64: "*fp64",
    torch.uint8: "*u8",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.bool: "*i1",
}


@dataclasses.dataclass(frozen=True)
class Resources:
    """Resources of a compiled kernel: registers a thread, bytes of shared memory a block, bytes spilled a thread."""

    registers: int
    shared: int
    spilled: int


@dataclasses.dataclass(frozen=True)
class Variant:
    """A kernel specialized for one launch and one configuration."""

    launch: _triton.Launch
    config: _triton.Config
    signature: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, Any], ...]
    divisible: tuple[str, ...]

    @property
    def identity(self) -> tuple[Any, ...]:
        return (
            self.launch.name,
            self.signature,
            self.constants,
            self.divisible,
            self.config.num_warps,
            self.config.num_stages,
        )

    def compile(self, arch: int) -> Any:
        """Compile for sm_`arch`; Triton's compiled kernel."""
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource
        from triton.compiler import compile as triton_compile

        names = self.launch.kernel.arg_names
        source = ASTSource(
            fn=self.launch.kernel,
            signature=dict(self.signature),
            constexprs={(names.index(name),): value for name, value in self.constants},
            attrs={(names.index(name),): [["tt.divisibility", 16]] for name in self.divisible},
        )
        options = {"num_warps": self.config.num_warps, "num_stages": self.config.num_stages, "enable_fp_fusion": True}
        return triton_compile(source, target=GPUTarget("cuda", arch, 32), options=options)

    def resources(self, arch: int) -> Resources:
        """Compile for sm_`arch` and read the resources of the machine code."""
        compiled = self.compile(arch)
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(compiled.asm["cubin"])
            file.flush()
            output = subprocess.run(
                [_cuobjdump(), "-res-usage", file.name], capture_output=True, text=True, check=True
            ).stdout
        usage = {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", output)}
        # STACK holds the spilled bytes; kernels here have no local arrays.
        return Resources(usage["REG"], int(compiled.metadata.shared), usage["STACK"] + usage.get("LOCAL", 0))


def _cuobjdump() -> str:
    import triton

    for path in sorted(Path(triton.__file__).parent.glob("backends/nvidia/bin/cuobjdump*")):
        return str(path)
    raise InputError("this Triton has no cuobjdump of its own, so registers and spills cannot be read")


def variants(launch: _triton.Launch) -> Iterator[Variant]:
    """The kernels that a launch compiles, one for each of its configurations."""
    for config in launch.choices:
        signature: list[tuple[str, str]] = []
        constants: list[tuple[str, Any]] = []
        divisible: list[str] = []
        values = dict(zip(launch.kernel.arg_names, launch.arguments, strict=False))
        values |= launch.constants | dict(config.blocks)
        for name in launch.kernel.arg_names:
            value = values[name]
            if name in launch.constants or name in dict(config.blocks) or value is None:
                kind = "constexpr"
            elif isinstance(value, Tensor):
                kind = _POINTERS[value.dtype]
                divisible.append(name)
            elif isinstance(value, int):
                kind = "constexpr" if value == 1 else "i32" if -(2**31) <= value < 2**31 else "i64"
                if kind != "constexpr" and value % 16 == 0:
                    divisible.append(name)
            else:
                kind = "fp32"
            signature.append((name, kind))
            if kind == "constexpr":
                constants.append((name, value))
        yield Variant(launch, config, tuple(signature), tuple(constants), tuple(divisible))


def unique(launches: Iterable[_triton.Launch]) -> list[Variant]:
    """The distinct kernels among all configurations of the launches, in order."""
    by_identity = {variant.identity: variant for variant in itertools.chain.from_iterable(map(variants, launches))}
    return list(by_identity.values())


def table(op: str, archs: Sequence[int] = ARCHS) -> list[dict[str, Any]]:
    """A row for each kernel of an op, configuration and architecture; `chosen` marks the default configurations."""
    from fastgan.bench.triton.aot_calls import CALLS

    with _triton.recorded() as launches:
        for call in CALLS[op]():
            call()
    rows = []
    for variant in unique(launches):
        for arch in archs:
            rows.append(
                {
                    "kernel": variant.launch.name,
                    "key": variant.launch.key,
                    "config": str(variant.config),
                    "chosen": variant.config == variant.launch.choices[0],
                    "arch": arch,
                    **dataclasses.asdict(variant.resources(arch)),
                }
            )
    return rows


def tables(ops: Sequence[str], archs: Sequence[int] = ARCHS) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """``table`` of each op for one architecture at a time, in one process a processor."""
    jobs = [(op, arch) for op in ops for arch in archs]
    # Not forked: a forked process would lack torch's threads.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from zip((op for op, _ in jobs), pool.map(_table_of_job, jobs), strict=True)


def _table_of_job(job: tuple[str, int]) -> list[dict[str, Any]]:
    op, arch = job
    return table(op, (arch,))
