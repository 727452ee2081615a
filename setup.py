"""Builds `fastgan._C`, the compiled kernels. Everything else about the package is in pyproject.toml.

The kernels take raw pointers, so the build needs neither torch nor a GPU, and what it makes serves every torch version.

FASTGAN_CUDA: 1 builds the CUDA kernels too and stops where there is no nvcc; 0 does not; unset, they are built if nvcc
is found. FASTGAN_CUDA_ARCHS: for which GPUs, as "80 90 100 120" (compute capabilities without the point), the default.
FASTGAN_NVCC: which nvcc.

A build in place (`pip install -e`, `setup.py build_ext --inplace`) keeps its objects in build/dev-* and compiles only
those whose command, source or included files have changed. Any other build compiles all files or none, as setuptools
does.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension
from pybind11.setup_helpers import build_ext as pybind11_build_ext
from setuptools import setup

ROOT = Path(__file__).resolve().parent
FLAGS = ["-O3", "-fopenmp", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra"]
# GCC 12 takes the undefined vector of its own AVX-512 header for a mistake, hundreds of times.
FLAGS += ["-Wno-maybe-uninitialized"]
CUDA_FLAGS = ["-std=c++17", "-O3", "-DFASTGAN_CUDA", "-Xcompiler", "-fPIC,-fvisibility=hidden,-Wall,-Wextra"]
DEFAULT_ARCHS = "80 90 100 120"


def nvcc() -> str | None:
    """The CUDA compiler, where CUDA kernels are to be built."""
    setting = os.environ.get("FASTGAN_CUDA", "")
    if setting not in ("", "0", "1"):
        sys.exit(f"FASTGAN_CUDA={setting}: must be 0 or 1, or unset to build the CUDA kernels where nvcc is found")
    if setting == "0":
        return None
    name = os.environ.get("FASTGAN_NVCC")
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    compiler = shutil.which(name or "nvcc") or (None if name else shutil.which(f"{home}/bin/nvcc"))
    if compiler is None and (name or setting == "1"):
        sys.exit(f"{'FASTGAN_NVCC=' + name if name else 'FASTGAN_CUDA=1'}: no such compiler: put nvcc on PATH")
    return compiler


def cuda_archs() -> list[str]:
    archs = re.split(r"[ ,;]+", os.environ.get("FASTGAN_CUDA_ARCHS", "").strip() or DEFAULT_ARCHS)
    for arch in archs:
        if not re.fullmatch(r"\d{2,3}[af]?", arch):
            sys.exit(f"FASTGAN_CUDA_ARCHS: {arch!r} is no compute capability; write {DEFAULT_ARCHS!r} for example")
    return sorted(archs, key=lambda arch: int(arch.rstrip("af")))


def cuda_library_folder(compiler: str) -> Path:
    # nvcc knows its own root; its location on PATH says nothing (a link, a wrapper, a package of its own).
    dry_run = subprocess.run([compiler, "--dryrun", "-c", "-x", "cu", os.devnull], capture_output=True, text=True)
    top = re.search(r"TOP=(\S+)", dry_run.stderr)
    if top is None:
        sys.exit(f"{compiler} --dryrun does not tell its root; set FASTGAN_CUDA=0 to build without CUDA kernels")
    for name in ("lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"):
        folder = Path(top[1]) / name
        if (folder / "libcudart_static.a").exists():
            return folder.resolve()
    sys.exit(f"no libcudart_static.a under {top[1]}; set FASTGAN_CUDA=0 to build without CUDA kernels")


def compile_if_stale(target: Path, command: Sequence[str], run: Callable[[list[str]], object]) -> None:
    """Run a compiler's command unless its object is current; `run` gets the options that list the included files.

    Beside the object lie that list (`.d`) and the command (`.command`), a file as old as the start of the compilation.
    """
    dependencies, record = target.with_suffix(".d"), target.with_suffix(".command")
    text = shlex.join(command)
    if is_current(target, dependencies, record, text):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    record.unlink(missing_ok=True)
    started = target.with_suffix(".started")
    started.write_text(text)
    run(["-MMD", "-MF", str(dependencies)])
    started.rename(record)


def is_current(target: Path, dependencies: Path, record: Path, command: str) -> bool:
    if not (target.exists() and dependencies.exists() and record.exists()) or record.read_text() != command:
        return False
    rule = dependencies.read_text().replace("\\\n", " ").split(": ", 1)[1]
    files = [ROOT / name.replace("\\ ", " ") for name in re.split(r"(?<!\\)\s+", rule.strip())]
    return all(file.exists() and file.stat().st_mtime_ns < record.stat().st_mtime_ns for file in files)


def compile_cuda(compiler: str, archs: list[str], folder: Path, incremental: bool) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    targets = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in archs]
    newest = archs[-1].rstrip("af")
    targets.append(f"-gencode=arch=compute_{newest},code=compute_{newest}")  # for GPUs newer than this build

    def run(command: list[str]) -> None:
        print(shlex.join(command), flush=True)
        if subprocess.run(command, cwd=ROOT).returncode != 0:
            raise RuntimeError(f"nvcc failed: {shlex.join(command)}")

    def compile_one(source: str) -> str:
        target = folder / (Path(source).stem + ".o")
        command = [compiler, *CUDA_FLAGS, *targets, "-I", "csrc", "-c", source, "-o", str(target)]
        if incremental:
            compile_if_stale(target, command, lambda options: run([*command, *options]))
        else:
            run(command)
        return str(target)

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
    def finalize_options(self) -> None:
        super().finalize_options()
        self.incremental = bool(self.inplace)  # an editable install too
        if self.incremental:
            self.build_temp = str(ROOT / "build" / f"dev-{self.plat_name}-{sys.implementation.cache_tag}")
            self.force = True  # setuptools would look at the library's age alone; the objects decide

    def build_extensions(self) -> None:
        (extension,) = self.extensions
        compiler = nvcc()
        archs, release = [], None
        if compiler is not None:
            archs = cuda_archs()
            library = cuda_library_folder(compiler)
            release = re.search(r"release ([\d.]+)", subprocess.check_output([compiler, "--version"], text=True))
            objects = compile_cuda(compiler, archs, Path(self.build_temp).resolve() / "cuda", self.incremental)
            extension.extra_objects += objects
            extension.define_macros += [("FASTGAN_CUDA", "1")]
            # The runtime inside: a build with CUDA loads where there is no CUDA.
            extension.extra_link_args += [f"-L{library}", "-lcudart_static", "-ldl", "-lrt", "-lpthread"]
        build_info = {
            "FASTGAN_VERSION": self.distribution.get_version(),
            "FASTGAN_COMMIT": git_commit(),
            "FASTGAN_CUDA_ARCHS": " ".join(archs),
            "FASTGAN_CUDA_VERSION": release[1] if release else "",
        }
        self.compile_each([f'-D{name}="{value}"' for name, value in build_info.items()])
        super().build_extensions()

    def compile_each(self, build_info: list[str]) -> None:
        """Make setuptools' compiler skip current objects, and give `build_info` to the one file that uses it.

        A commit changes these macros: for all files, it would make all objects stale.
        """
        compile_one = self.compiler._compile
        prefix = list(map(str, getattr(self.compiler, "compiler_so_cxx", self.compiler.compiler_so)))

        def compile_source(
            target: str, source: str, suffix: str, arguments: list[str], flags: list[str], options: list[str]
        ) -> None:
            flags = [*flags, *(build_info if source.endswith("build_info_cpu.cpp") else [])]

            def run(more: list[str]) -> None:
                compile_one(target, source, suffix, arguments, [*flags, *more], options)

            if self.incremental:
                compile_if_stale(Path(target), [*prefix, *arguments, source, *flags], run)
            else:
                run([])

        self.compiler._compile = compile_source


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
