"""Build the wheel once and run it in fresh environments, one for each torch: the oldest supported and the newest.

The kernels link no torch, so one wheel must serve them all. FASTGAN_CUDA and FASTGAN_CUDA_ARCHS steer the build.

    python tools/test_wheel.py
    python tools/test_wheel.py --torch 2.12 --keep /tmp/environments
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHECKS = Path(__file__).resolve().parent / "wheel_checks.py"
OLDEST = "2.11"
TRAIN = ["train", "--content", "demo", "--style", "demo", "--size", "64", "--steps", "3"]
# Where the checks run, the checkout must not be found in place of the wheel.
ENVIRONMENT = {**os.environ, "PYTHONSAFEPATH": "1"}
BUILD_INFO = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("fastgan._C", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
info = module.build_info()
archs = " ".join(info["cuda_archs"])
print(f"version {info['version']} at {info['commit'] or 'no commit'}, {info['compiler']}")
print(f"CUDA {info['cuda_version']} for {archs}" if archs else "no CUDA kernels")
"""


def run(*command: str | Path, cwd: Path, **environment: str) -> None:
    subprocess.run([str(part) for part in command], cwd=cwd, env={**ENVIRONMENT, **environment}, check=True)


def build(folder: Path) -> Path:
    # Not in the checkout's build/, where files that are no longer part of the package may lie.
    settings = folder / "build.cfg"
    settings.write_text(f"[build]\nbuild_base = {folder / 'build'}\n")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    started = time.perf_counter()
    run(*command, cwd=folder, DIST_EXTRA_CONFIG=str(settings))
    (wheel,) = folder.glob("fastgan-*.whl")
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, built in {time.perf_counter() - started:.0f} s")
    with zipfile.ZipFile(wheel) as archive:
        (extension,) = (name for name in archive.namelist() if name.startswith("fastgan/_C."))
        archive.extract(extension, folder)
    run(sys.executable, "-c", BUILD_INFO, folder / extension, cwd=folder)
    return wheel


def test(wheel: Path, torch: str, folder: Path) -> None:
    """Makes an environment in a folder and runs the wheel there; raises CalledProcessError where something fails."""
    started = time.perf_counter()
    venv.create(folder, with_pip=True)
    python, fastgan = folder / "bin" / "python", folder / "bin" / "fastgan"
    wanted = "torch" if torch == "newest" else f"torch=={torch}.*"
    run(python, "-m", "pip", "install", "-qq", wanted, wheel, cwd=folder)
    print(f"installed in {time.perf_counter() - started:.0f} s", flush=True)
    run(fastgan, "info", cwd=folder)
    run(python, CHECKS, cwd=folder)
    run(fastgan, *TRAIN, "--out", folder / "run", cwd=folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    help_torch = f"a release such as 2.12, or newest; several times for several (default: {OLDEST} and newest)"
    parser.add_argument("--torch", action="append", metavar="VERSION", help=help_torch)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="make wheel and environments there and leave them")
    parser.add_argument("--build-only", action="store_true", help="build the wheel and say what is in it")
    arguments = parser.parse_args()

    temporary = None if arguments.keep else Path(tempfile.mkdtemp(prefix="test-wheel-"))
    folder = (temporary or arguments.keep).resolve()
    failed = []
    try:
        shutil.rmtree(folder / "wheel", ignore_errors=True)
        (folder / "wheel").mkdir(parents=True)
        wheel = build(folder / "wheel")
        for torch in () if arguments.build_only else arguments.torch or (OLDEST, "newest"):
            print(f"\n== torch {torch} ==", flush=True)
            environment = folder / f"torch-{torch}"
            shutil.rmtree(environment, ignore_errors=True)
            try:
                test(wheel, torch, environment)
            except subprocess.CalledProcessError as error:
                failed.append(torch)
                print(f"exit status {error.returncode}: {' '.join(error.cmd)}", flush=True)
            if temporary:  # several gigabytes each
                shutil.rmtree(environment, ignore_errors=True)
    except subprocess.CalledProcessError as error:
        print(f"FAILED: the wheel: exit status {error.returncode}: {' '.join(error.cmd)}")
        return 1
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
    for torch in failed:
        print(f"FAILED: the environment with torch {torch}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
