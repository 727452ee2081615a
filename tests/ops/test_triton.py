"""Triton kernels without a GPU: run by the interpreter, and compiled for GPUs that are not here."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from helpers.machine import needs, require

from fastgan import ops
from fastgan.bench.triton import aot_compile
from fastgan.bench.triton.aot_calls import CALLS

ROOT = Path(__file__).resolve().parents[2]
INTERPRETED = sorted((ROOT / "tests" / "interpreted").glob("test_*.py"))
#: Those whose kernels have loops with computed bounds.
LOOPING = {"test_fuse", "test_gan_loss", "test_instance_norm", "test_triton_tiles"}

assert {file.stem for file in INTERPRETED} >= LOOPING

pytestmark = needs("the package triton")


@pytest.fixture(scope="module")
def interpreted() -> dict[str, subprocess.CompletedProcess[str]]:
    """Every file in a process of its own, since Triton reads the variable when it is imported; as many as there are
    processors at a time."""

    def run(file: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)],
            cwd=ROOT,
            env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip((file.stem for file in INTERPRETED), pool.map(run, INTERPRETED), strict=True))


@pytest.mark.parametrize("name", [file.stem for file in INTERPRETED])
def test_in_the_interpreter(name: str, interpreted: dict[str, subprocess.CompletedProcess[str]]) -> None:
    if name in LOOPING:
        require("loops in Triton's interpreter (Triton 3.6 needs NumPy < 2.4)")
    if name == "test_triton_tiles":
        require("5 GiB of address space")
    result = interpreted[name]
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-1000:]
    assert " passed" in result.stdout and "skipped" not in result.stdout, result.stdout[-1000:]


def test_every_configuration_compiles_for_every_architecture_and_none_spills() -> None:
    found = list(aot_compile.tables(sorted(CALLS)))
    assert len(found) == len(CALLS) * len(aot_compile.ARCHS)
    for op, rows in found:
        assert rows and any(row["chosen"] for row in rows), op
        assert [row for row in rows if row["spilled"]] == []


def test_every_triton_backend_is_compiled() -> None:
    with_triton = {row["op"] for row in ops.report(("cuda",))["ops"] for b in row["backends"] if b["name"] == "triton"}
    assert with_triton == set(CALLS)


def test_asked_for_without_a_gpu_it_says_why() -> None:
    require("no GPU")
    with pytest.raises(ValueError, match="bias_act cannot use 'triton' here: it runs on cuda, not on cpu"):
        ops.bias_act(torch.ones(1, 1, 2, 2), backend="triton")
