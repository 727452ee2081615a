"""Builds `fastgan._C`, the compiled kernels. Everything else about the package is in pyproject.toml.

The kernels take raw pointers, so the build needs neither torch nor a GPU, and what it makes serves every torch version.

FASTGAN_CUDA: 1 builds the CUDA kernels too and stops where there is no nvcc; 0 does not; unset, they are built if nvcc
is found. FASTGAN_CUDA_ARCHS: for which GPUs, as "80 90 100 120" (compute capabilities without the point), the default.
FASTGAN_NVCC: which nvcc.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension
from pybind11.setup_helpers import build_ext as pybind11_build_ext
from setuptools import setup

ROOT = Path(__file__).resolve().parent
FLAGS = ["-O3", "-fopenmp", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra"]
# GCC 12 takes the undefined vector of its own AVX-512 header for a mistake, hundreds of times.
FLAGS += ["-Wno-maybe-uninitialized"]
DEFAULT_ARCHS = "80 90 100 120"


def nvcc() -> str | None:
    """The CUDA compiler, where CUDA kernels are to be built."""
    asked = os.environ.get("FASTGAN_CUDA", "")
    if asked not in ("", "0", "1"):
        sys.exit(f"FASTGAN_CUDA={asked}: must be 0 or 1, or unset to build the CUDA kernels where nvcc is found")
    if asked == "0":
        return None
    named = os.environ.get("FASTGAN_NVCC")
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    found = shutil.which(named or "nvcc") or (None if named else shutil.which(f"{home}/bin/nvcc"))
    if found is None and (named or asked == "1"):
        sys.exit(f"{'FASTGAN_NVCC=' + named if named else 'FASTGAN_CUDA=1'}: no such compiler: put nvcc on PATH")
    return found


def cuda_archs() -> list[str]:
    archs = re.split(r"[ ,;]+", os.environ.get("FASTGAN_CUDA_ARCHS", "").strip() or DEFAULT_ARCHS)
    for arch in archs:
        if not re.fullmatch(r"\d{2,3}[af]?", arch):
            sys.exit(f"FASTGAN_CUDA_ARCHS: {arch!r} is no compute capability; write {DEFAULT_ARCHS!r} for example")
    return sorted(archs, key=lambda arch: int(arch.rstrip("af")))


def cuda_library_folder(compiler: str) -> Path:
    # nvcc knows its own root; where it lies on PATH says nothing (a link, a wrapper, a package of its own).
    printed = subprocess.run([compiler, "--dryrun", "-c", "-x", "cu", os.devnull], capture_output=True, text=True)
    top = re.search(r"TOP=(\S+)", printed.stderr)
    if top is None:
        sys.exit(f"{compiler} --dryrun does not tell its root; set FASTGAN_CUDA=0 to build without CUDA kernels")
    for folder in ("lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"):
        found = Path(top[1]) / folder
        if (found / "libcudart_static.a").exists():
            return found.resolve()
    sys.exit(f"no libcudart_static.a under {top[1]}; set FASTGAN_CUDA=0 to build without CUDA kernels")


def compile_cuda(compiler: str, archs: list[str], folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    targets = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in archs]
    newest = archs[-1].rstrip("af")
    targets.append(f"-gencode=arch=compute_{newest},code=compute_{newest}")  # for GPUs newer than this build

    def compile_one(source: str) -> str:
        made = folder / (Path(source).stem + ".o")
        command = [
            compiler,
            "-std=c++17",
            "-O3",
            "-DFASTGAN_CUDA",
            "-Xcompiler",
            "-fPIC,-fvisibility=hidden,-Wall,-Wextra",
        ]
        command += [*targets, "-I", "csrc", "-c", source, "-o", str(made)]
        print(shlex.join(command), flush=True)
        done = subprocess.run(command, cwd=ROOT)
        if done.returncode != 0:
            raise RuntimeError(f"nvcc failed on {source}")
        return str(made)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, sources("csrc/*/*_cuda.cu")))


def git_commit() -> str:
    if not (ROOT / ".git").exists():
        return ""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


class BuildExt(pybind11_build_ext):
    def build_extensions(self) -> None:
        (extension,) = self.extensions
        version = self.distribution.get_version()
        extension.define_macros += [("FASTGAN_VERSION", f'"{version}"'), ("FASTGAN_COMMIT", f'"{git_commit()}"')]
        compiler = nvcc()
        if compiler is not None:
            archs = cuda_archs()
            library = cuda_library_folder(compiler)
            release = re.search(r"release ([\d.]+)", subprocess.check_output([compiler, "--version"], text=True))
            extension.extra_objects += compile_cuda(compiler, archs, Path(self.build_temp).resolve() / "cuda")
            extension.define_macros += [
                ("FASTGAN_CUDA", "1"),
                ("FASTGAN_CUDA_ARCHS", f'"{" ".join(archs)}"'),
                ("FASTGAN_CUDA_VERSION", f'"{release[1] if release else ""}"'),
            ]
            # The runtime inside: a build with CUDA loads where there is no CUDA.
            extension.extra_link_args += [f"-L{library}", "-lcudart_static", "-ldl", "-lrt", "-lpthread"]
        super().build_extensions()


def sources(*patterns: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern))


ParallelCompile().install()
setup(
    ext_modules=[
        Pybind11Extension(
            "fastgan._C",
            ["csrc/bindings.cpp", *sources("csrc/*/*_cpu.cpp")],
            depends=sources("csrc/*.h", "csrc/*/*.h", "csrc/*/*.inc", "csrc/*/*.cu", "csrc/*/*.cuh"),
            include_dirs=["csrc"],
            cxx_std=17,
            extra_compile_args=FLAGS,
            extra_link_args=["-fopenmp"],
        )
    ],
    cmdclass={"build_ext": BuildExt},
)
