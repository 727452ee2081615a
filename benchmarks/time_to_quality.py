"""Time to a named quality: fastgan, its recipe in plain PyTorch, and the published recipe, on the same photographs.

    python benchmarks/time_to_quality.py run --json benchmarks/results/MACHINE/time-to-quality.json
    python benchmarks/time_to_quality.py table benchmarks/results/MACHINE/time-to-quality.json

They take turns of ``--every`` steps, each in a process of its own. After each turn their averaged generators are
measured on photographs held out as ``fastgan evaluate`` measures; that takes no part in the seconds. A side is done
when all that the target names is reached, or its steps are spent, or the minutes are over. What ``eager`` needs more
than fastgan is what the engine wins; what ``published`` needs more is what engine and recipe win together.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fastgan.bench import results, time_to_quality
from fastgan.bench.worker_process import Worker, WorkerError
from fastgan.errors import FastganError, InputError
from fastgan.evaluation.evaluator import TITLES
from fastgan.precision import select_device
from fastgan.utils.files import write_text

#: The measures that are better where they are larger.
_RISING = ("coverage", "ssim")


def compare(options: dict[str, Any]) -> dict[str, Any]:
    """Train all in turns; the result. Raises InputError for bad options, WorkerError if a process is lost."""
    time_to_quality.validate(options)
    device = select_device(options["device"]).type
    target = {name: options[name] for name in time_to_quality.MEASURES if options[name] is not None}
    header = {**results.header(device), "target": target, "options": {**options, **_names(options)}}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        workers: list[Worker] = []
        try:
            for name in time_to_quality.PROVIDERS:
                settings = {**options, "provider": name}
                workers.append(Worker(time_to_quality.__name__, settings, Path(scratch), device=device, name=name))
                steps = options["steps" if name == "fastgan" else "baseline_steps"]
                rows.append({"provider": name, "steps": 0, "train_seconds": 0.0, "of_steps": steps, "ended": None})
                rows[-1]["curve"] = []
            begin = time.monotonic()
            while any(row["ended"] is None for row in rows):
                for worker, row in zip(workers, rows, strict=True):
                    if row["ended"] is None:
                        over = time.monotonic() - begin >= 60 * options["minutes"]
                        _turn(worker, row, options["every"], target, over=over)
        finally:
            for worker in workers:
                worker.close()
    for row in rows[1:]:
        ratio = row["train_seconds"] / rows[0]["train_seconds"] if rows[0]["reached"] else None
        row["ratio"] = ratio if row["reached"] else None
        row["ratio_at_least"] = None if row["reached"] else ratio
    return {"header": {**header, "complete": True}, "rows": rows}


def _turn(worker: Worker, row: dict[str, Any], every: int, target: dict[str, float], *, over: bool) -> None:
    if over and row["curve"]:
        row["ended"] = "minutes"
        return
    count = min(every, row["of_steps"] - row["steps"])
    row["train_seconds"] += worker.seconds(count)
    row["steps"] += count
    row |= worker.report()
    measures = {name: row[name] for name in time_to_quality.MEASURES if name in row}
    row["curve"].append({"steps": row["steps"], "train_seconds": row["train_seconds"], **measures})
    row["reached"] = all(
        row[name] >= value if name in _RISING else row[name] <= value for name, value in target.items()
    )
    if row["reached"] or row["steps"] >= row["of_steps"]:
        row["ended"] = "reached" if row["reached"] else "steps"
    shown = ", ".join(f"{TITLES[name]} {value:.3f}" for name, value in measures.items())
    print(f"{row['provider']:9} step {row['steps']:4}  {row['train_seconds']:7.1f} s  {shown}", flush=True)


def _names(options: dict[str, Any]) -> dict[str, str]:
    """Folders by their names: where they lie on this machine is nobody else's concern."""
    return {name: Path(options[name]).name for name in ("content", "style", "features")}


def table(result: dict[str, Any]) -> str:
    """A result as docs/performance/time-to-quality.md shows it, in Markdown."""
    target = result["header"]["target"]
    goal = ", ".join(f"{TITLES[name]} {value:g}" for name, value in target.items())
    columns = [TITLES[name] for name in time_to_quality.MEASURES]
    lines = [f"| to {goal} | steps | seconds of training | {' | '.join(columns)} | times fastgan's seconds |"]
    lines.append("|---|---|---|" + "---|" * len(columns) + "---|")
    ends = {"reached": "", "steps": ", not reached in its steps", "minutes": ", not reached in time"}
    for row in result["rows"]:
        measures = [f"{row[name]:.3f}" if name in row else "" for name in time_to_quality.MEASURES]
        ratio, bound = row.get("ratio"), row.get("ratio_at_least")
        times = "" if ratio is None and bound is None else f"{ratio:.1f}" if bound is None else f"over {bound:.1f}"
        cells = [row["provider"] + ends[row["ended"]], str(row["steps"]), f"{row['train_seconds']:.0f}"]
        lines.append(f"| {' | '.join([*cells, *measures, times])} |")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = parser.add_subparsers(dest="name", required=True)
    run = names.add_parser("run")
    run.add_argument("--json", type=Path, required=True)
    run.add_argument("--content", default="demo", help="a folder of photographs; some are held out")
    run.add_argument("--style", default="demo")
    run.add_argument("--features", default="vgg19")
    run.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    run.add_argument("--size", type=int, default=128)
    run.add_argument("--batch", type=int, default=4)
    run.add_argument("--style-distance", type=float, default=0.10, help="at most this")
    run.add_argument("--coverage", type=float, default=0.85, help="at least this")
    run.add_argument("--lpips", type=float, default=0.58, help="at most this; needs the extra quality")
    run.add_argument("--ssim", type=float, help="at least this")
    run.add_argument("--every", type=int, default=20, help="steps of a turn")
    run.add_argument("--photographs", type=int, default=4, help="held out, that are measured at most")
    run.add_argument("--minutes", type=float, default=20.0, help="in all")
    run.add_argument("--steps", type=int, default=240, help="of fastgan's schedule")
    run.add_argument("--baseline-steps", type=int, help="as many by default")
    run.add_argument("--schedule", default="cosine", choices=("cosine", "constant"), help="the baselines' rates")
    run.add_argument("--compile", action="store_true", help="the baselines; takes minutes on a CPU, which count")
    names.add_parser("table").add_argument("json", type=Path)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0, or 2 and one line on stderr for bad input."""
    args = _parser().parse_args(arguments)
    try:
        if args.name == "table":
            print(table(_read(args.json)))
            return 0
        options = {name: value for name, value in vars(args).items() if name not in ("name", "json")}
        if options["baseline_steps"] is None:
            options["baseline_steps"] = args.steps
        for name in ("every", "photographs", "minutes", "steps", "baseline_steps"):
            if not options[name] > 0:
                raise InputError(f"--{name.replace('_', '-')} {options[name]}: must be above 0")
        if args.json.is_dir() or not args.json.parent.is_dir():
            raise InputError(f"--json {args.json}: cannot be written; give a file in a folder that exists")
        result = compare(options)
        write_text(args.json, results.to_text(result))
    except (FastganError, WorkerError) as error:
        print(f"time_to_quality: {error}", file=sys.stderr)
        return 2
    print(table(result))
    return 0


def _read(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        table(result)
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path}: is no result of this benchmark") from None
    return result


if __name__ == "__main__":
    sys.exit(main())
