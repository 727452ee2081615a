"""Fuzz the compiled kernels under AddressSanitizer and UndefinedBehaviorSanitizer.

Builds csrc/ with both sanitizers into a folder of its own and calls every binding with random sizes, dtypes, memory
layouts, instruction sets, thread counts and subsets of gradients, and with calls that must be refused. A case follows
from --seed and its number alone, so that a finding ends in the command that shows it again.

    python tools/fuzz_kernels.py --seconds 60
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pybind11

ROOT = Path(__file__).resolve().parents[1]
CSRC = ROOT / "csrc"
FLAGS = ["-O1", "-g1", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-fopenmp", "-fno-omit-frame-pointer"]
FLAGS += ["-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# Fresh memory holds 0xff, NaN in every dtype: a result that was not written, or was made of what is no input, shows.
ASAN = "detect_leaks=0:allocator_may_return_null=1:malloc_fill_byte=255:max_malloc_fill_size=1000000000"
# torch and Python are not of this build, and only what they give to the C library's own functions would be looked at.
SUPPRESSIONS = "interceptor_via_lib:libtorch\ninterceptor_via_lib:libpython\n"


def build(folder: Path, jobs: int) -> Path:
    """The sanitized extension; objects that are newer than all of csrc/ are kept."""
    library = folder / f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"
    newest = max(path.stat().st_mtime for path in CSRC.rglob("*") if path.is_file())
    headers = [f"-I{CSRC}", f"-I{pybind11.get_include()}", f"-I{sysconfig.get_path('include')}"]
    compiler = os.environ.get("CXX", "g++")

    def compile_one(source: Path) -> str:
        target = folder / f"{source.stem}.o"
        if not target.exists() or target.stat().st_mtime < newest:
            part = target.with_suffix(".part")
            subprocess.run([compiler, *FLAGS, *SANITIZERS, *headers, "-c", source, "-o", part], check=True)
            part.rename(target)
        return str(target)

    with ThreadPoolExecutor(jobs) as pool:
        objects = list(pool.map(compile_one, [CSRC / "bindings.cpp", *sorted(CSRC.glob("*/*_cpu.cpp"))]))
    subprocess.run([compiler, "-shared", "-fopenmp", *SANITIZERS, *objects, "-o", library], check=True)
    return library


def runtimes() -> str:
    """The libraries to load before the interpreter: ASan must come first, and finds __cxa_throw in libstdc++ only."""
    paths = []
    for name in ("libasan.so", "libstdc++.so.6"):
        command = [os.environ.get("CXX", "g++"), f"-print-file-name={name}"]
        path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        if not Path(path).is_absolute():
            sys.exit(f"the compiler has no {name}; install GCC's sanitizer libraries")
        paths.append(path)
    return ":".join(paths)


def run(library: Path, folder: Path, seed: int, seconds: float, case: int | None) -> int:
    """Runs the cases in a process of their own; returns 1 after a finding, with its reproducer printed."""
    suppressions, progress = folder / "suppressions", folder / "case"
    suppressions.write_text(SUPPRESSIONS)
    progress.write_text("")
    environment = {
        **os.environ,
        "LD_PRELOAD": runtimes(),
        "ASAN_OPTIONS": f"{ASAN}:suppressions={suppressions}",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    command = [sys.executable, str(ROOT / "tools" / "fuzz_cases.py"), str(library), "--seed", str(seed)]
    command += ["--seconds", str(seconds), "--progress", str(progress)]
    if case is not None:
        command += ["--case", str(case)]
    try:
        code = subprocess.run(command, env=environment, timeout=2 * seconds + 300).returncode
    except subprocess.TimeoutExpired:
        code = -1
        print("the case does not end", flush=True)
    if code == 0:
        return 0
    failing = progress.read_text().strip()
    if not failing:
        print("FAILED before the first case")
        return 1
    print(f"FINDING in case {failing} (exit status {code}); again with:")
    print(f"    python tools/fuzz_kernels.py --seed {seed} --case {failing}")
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="of fuzzing, after the build (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="of the cases (default: another one each time)")
    parser.add_argument("--case", type=int, default=None, help="run this case alone")
    parser.add_argument(
        "--build", type=Path, default=None, help="folder to build in and to keep (default: none is kept)"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="compilers at a time")
    arguments = parser.parse_args()
    seed = int(time.time()) if arguments.seed is None else arguments.seed

    with tempfile.TemporaryDirectory(prefix="fuzz-kernels-") as temporary:
        folder = arguments.build or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        try:
            library = build(folder.resolve(), arguments.jobs)
        except subprocess.CalledProcessError as error:
            sys.exit(f"the build failed: {error}")
        print(f"built in {time.perf_counter() - started:.0f} s; seed {seed}", flush=True)
        return run(library, Path(temporary), seed, arguments.seconds, arguments.case)


if __name__ == "__main__":
    sys.exit(main())
