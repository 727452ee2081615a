"""Picture quality: what the commands of the README reach, on photographs that were not trained on.

    python benchmarks/quality.py demo    --out benchmarks/results/MACHINE
    python benchmarks/quality.py targets --out benchmarks/results/MACHINE --held-out DIR

    python benchmarks/quality.py table   --out benchmarks/results/MACHINE

``demo`` runs the README's first command. ``--content``, ``--style`` and ``--held-out`` put other photographs and
another style in the place of the demo's; with ``--held-out DIR`` the first 24 readable pictures of a folder are
measured by ``fastgan evaluate``. ``targets`` trains at 128 px for each of the targets, ``--minutes`` or ``--steps``
long. Each command's line, wall time and measures are written to ``quality-NAME.json``; ``table`` prints what the README
has of them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fastgan.data import is_readable, list_images
from fastgan.utils.system import git_commit

ROOT = Path(__file__).resolve().parents[1]
HELD_OUT = 24
TARGETS = (("ssim", 0.45), ("ssim", 0.55), ("ssim", 0.65), ("coverage", 0.85), ("lpips", 0.55))
#: Column of the table -> measure and digits.
COLUMNS = {
    "style distance": ("style_distance", 3),
    "coverage": ("coverage", 2),
    "SSIM": ("ssim", 3),
    "LPIPS": ("lpips", 3),
    "luminance": ("luminance_correlation", 2),
    "fixed pattern": ("fixed_pattern", 2),
}


def run(command: list[str]) -> float:
    """Run a command of fastgan, shown as it would be typed; returns its wall time in seconds."""
    print("$", " ".join(command), flush=True)
    installed = Path(sys.executable).with_name(command[0])  # not the checkout, which has no compiled kernels
    begin = time.monotonic()
    subprocess.run([str(installed), *command[1:]], check=True)
    return time.monotonic() - begin


def train_and_measure(options: list[str], run_folder: Path, held_out: Path | None) -> dict[str, Any]:
    """Train with ``options``; the wall time, the run's own report and, with ``held_out``, what evaluate says of it."""
    command = ["fastgan", "train", *options, "--out", str(run_folder)]
    seconds = run(command)
    report = json.loads((run_folder / "report.json").read_text())
    result: dict[str, Any] = {
        # Folders by their names: where they lie on this machine is nobody else's concern.
        "command": " ".join(["fastgan", "train", *(Path(option).name for option in options)]),
        "wall_seconds": round(seconds, 1),
        **{key: report[key] for key in ("steps", "batch", "size", "img_per_s", "dtype", "device", "threads", "torch")},
        "machine": report["machine"],
        "commit": git_commit(ROOT),
        "baseline": _means(report["baseline"]),
        "result": _means(report["result"]),
    }
    if held_out is not None:
        measured = run_folder / "evaluate.json"
        run(["fastgan", "evaluate", str(run_folder), "--content", str(held_out), "--json", str(measured)])
        result["held_out"] = _means(json.loads(measured.read_text()))
    return result


def _means(measures: dict[str, Any]) -> dict[str, Any]:
    return {"n": measures["n"], **{name: value["mean"] for name, value in measures.items() if name != "n"}}


def table(folder: Path) -> str:
    """The results in ``folder`` as the README shows them, in Markdown."""
    rows = [
        f"| run | steps, wall time | measured on | {' | '.join(COLUMNS)} |",
        "|---|---|---|" + "---|" * len(COLUMNS),
    ]
    for file in sorted(folder.glob("quality-*.json")):
        for name, run in json.loads(file.read_text()).items():
            label = file.stem.removeprefix("quality-")
            title = label if name == "demo" else f"{label}, {name}"
            minutes, seconds = divmod(round(run["wall_seconds"]), 60)
            for key, measured_on in (("result", "its own held out"), ("held_out", "another set")):
                if key in run:
                    means = run[key]
                    values = [
                        f"{means[measure]:.{digits}f}" if measure in means else ""
                        for measure, digits in COLUMNS.values()
                    ]
                    rows.append(
                        f"| {title} | {run['steps']}, {minutes}:{seconds:02d} | {measured_on}, {means['n']} "
                        f"| {' | '.join(values)} |"
                    )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("demo", "targets", "table"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--label", help="the result's name, where it is not the demo's own pictures")
    parser.add_argument("--content", default="demo")
    parser.add_argument("--style", default="demo")
    parser.add_argument("--minutes", default="3")
    parser.add_argument("--steps", help="in place of minutes")
    parser.add_argument("--size", default="128")
    parser.add_argument("--target-ssim", help="of the demo")
    parser.add_argument("--held-out", type=Path)
    parser.add_argument("--keep", type=Path, help="keep the run folders here")
    args = parser.parse_args()
    if args.name == "table":
        print(table(args.out))
        return
    with tempfile.TemporaryDirectory() as scratch:
        runs = args.keep or Path(scratch)
        held_out = None
        if args.held_out is not None:
            held_out = Path(scratch) / "held_out"
            held_out.mkdir()
            for path in [path for path in list_images(args.held_out, shards=False) if is_readable(path)][:HELD_OUT]:
                shutil.copy(path, held_out / path.name)
        pictures = ["--content", args.content, "--style", args.style]
        length = ["--minutes", args.minutes] if args.steps is None else ["--steps", args.steps]
        results: dict[str, Any] = {}
        if args.name == "demo":
            options = ["--size", args.size, *length]
            options += ["--target-ssim", args.target_ssim] if args.target_ssim else []
            changed = args.content != "demo" or args.style != "demo"
            results["demo"] = train_and_measure(options + pictures * changed, runs / "demo", held_out)
        else:
            for name, target in TARGETS:
                options = [*pictures, "--size", args.size, *length, f"--target-{name}", str(target)]
                results[f"{name}-{target}"] = train_and_measure(options, runs / f"{name}-{target}", held_out)
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / f"quality-{args.label or args.name}.json"
    file.write_text(json.dumps(results, indent=2) + "\n")
    print(file)


if __name__ == "__main__":
    main()
