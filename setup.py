"""Builds `fastgan._C`, the compiled kernels. Everything else about the package is in pyproject.toml.

The kernels take raw pointers, so the build needs neither torch nor a GPU. FASTGAN_CUDA=1 asks for CUDA kernels.
"""

import os
import subprocess
import sys
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension
from pybind11.setup_helpers import build_ext as pybind11_build_ext
from setuptools import setup

ROOT = Path(__file__).resolve().parent
FLAGS = ["-O3", "-fopenmp", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]


def check_cuda_request() -> None:
    asked = os.environ.get("FASTGAN_CUDA", "0")
    if asked not in ("", "0"):
        sys.exit(f"FASTGAN_CUDA={asked}: this version has no CUDA kernels; unset it or set it to 0")


def git_commit() -> str:
    if not (ROOT / ".git").exists():
        return ""
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


class BuildExt(pybind11_build_ext):
    def build_extensions(self) -> None:
        version = self.distribution.get_version()
        for extension in self.extensions:
            extension.define_macros += [("FASTGAN_VERSION", f'"{version}"'), ("FASTGAN_COMMIT", f'"{git_commit()}"')]
        super().build_extensions()


def sources(pattern: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern))


check_cuda_request()
ParallelCompile().install()
setup(
    ext_modules=[
        Pybind11Extension(
            "fastgan._C",
            ["csrc/bindings.cpp", *sources("csrc/kernels/*_cpu.cpp")],
            depends=sources("csrc/kernels/*.h"),
            include_dirs=["csrc"],
            cxx_std=17,
            extra_compile_args=FLAGS,
            extra_link_args=["-fopenmp"],
        )
    ],
    cmdclass={"build_ext": BuildExt},
)
