"""The extension: built, loaded lazily, and one OpenMP runtime in the process."""

import subprocess
import sys
from pathlib import Path

import pytest

from fastgan.ops import _native

SCRIPT = """
import sys
import fastgan.ops
assert "fastgan._C" not in sys.modules, "loaded at import"
for heavy in ("torchvision", "pydantic", "numpy.testing", "skimage", "torch._dynamo", "triton"):
    assert heavy not in sys.modules, heavy
import torch
torch.set_num_threads(2)
a = torch.rand(1, 3, 64, 64)
for backend in ("native", "reference"):
    fastgan.ops.ssim(a, a, backend=backend)
(a @ a).sum()
print("\\n".join(sorted({line.split()[-1] for line in open("/proc/self/maps") if "gomp" in line or "libomp" in line})))
"""


def test_the_extension_is_built() -> None:
    assert _native.unavailable() is None
    info = _native.build_info()
    assert info["compiler"].startswith(("gcc", "clang"))
    assert info["openmp"] >= 201511
    assert info["cpu_levels"][0] == "baseline"
    assert info["cpu_level"] == info["cpu_levels"][-1]
    assert bool(info["cuda_archs"]) == hasattr(_native.extension(), "ssim_forward_cuda") == bool(info["cuda_version"])


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc/self/maps")
def test_one_openmp_runtime_and_nothing_heavy_at_import() -> None:
    if _native.unavailable():
        pytest.skip(f"native {_native.unavailable()}")
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    runtimes = result.stdout.split()
    assert len(runtimes) == 1, runtimes
