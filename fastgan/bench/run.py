"""What ``fastgan bench`` and ``python -m fastgan.bench`` do: measure, print, write."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastgan.errors import InputError

#: What can be measured; ``all`` is the others, one after another.
WHAT = ("ops", "train", "infer", "loader", "all")


def bench(
    what: str = "all",
    *,
    device: str = "cpu",
    json_file: Path | None = None,
    report: Path | None = None,
    compare: Path | None = None,
    quick: bool = False,
    only: Sequence[str] = (),
    compiled: bool | None = None,
    tune: bool = False,
) -> int:
    """Run the benchmarks; 0. Raises InputError for bad input, before anything is measured or written."""
    if what not in WHAT:
        raise InputError(f"{what}: there is no such benchmark; expected one of {', '.join(WHAT)}")

    for option, given in (("--only", only if what != "loader" else ()), ("--tune", tune)):
        if given and what not in ("ops", "all"):
            raise InputError(f"{option}: is for the ops; leave it out or give bench ops {option}")

    from fastgan.bench import html, results, tables
    from fastgan.bench.loader import suite as loader
    from fastgan.bench.ops import op_benchmarks
    from fastgan.bench.ops import suite as ops
    from fastgan.bench.triton import tune as tuning
    from fastgan.utils.files import write_text

    ops.check(device, () if what == "loader" else only)
    if what == "loader":
        loader.check(only)
    old = None if compare is None else results.read(compare, "--compare")
    if old is not None and not any(row["device"] == device for row in old["rows"]):
        raise InputError(f"--compare {compare}: has nothing that was measured on {device}; give another --device")
    _check_writable(json_file, report)
    if tune:
        tuning.refuse_without_gpu(device)
        tuning.tune(
            (case for op in only or op_benchmarks.op_names() for case in op_benchmarks.cases(op, device, quick=quick)),
            tell=_tell,
        )

    def keep(result: results.Result) -> None:
        if json_file is not None:
            write_text(json_file, results.to_text(result))
        if report is not None:
            comparison = None if old is None else tables.compared(result, old)
            write_text(report / "bench.json", results.to_text(result))
            write_text(report / "bench.html", html.page(result, comparison))

    # The names of ops choose among the ops, and leave the rest out.
    suites = ["ops"] if only and what == "all" else [name for name in WHAT[:-1] if what in (name, "all")]
    whole = {
        name: module
        for name in suites
        if name not in ("ops", "loader") and (module := _whole(name, required=what != "all"))
    }
    result: results.Result = {"header": results.header(device), "rows": []}
    for number, name in enumerate(suites):

        def keep_part(result: results.Result, more: bool = number + 1 < len(suites)) -> None:
            result["header"]["complete"] &= not more
            keep(result)

        options: dict[str, Any] = {"quick": quick, "compiled": compiled, "tell": _tell, "keep": keep_part}
        if name in ("ops", "loader"):
            (ops if name == "ops" else loader).run(device, only=only, result=result, **options)
        elif name in whole:
            whole[name].run(device, result=result, **options)
        else:
            result["header"]["skipped"].append(f"{name}: needs the packages of fastgan's own pip install")
            _tell(f"left out: {result['header']['skipped'][-1]}")
            result["header"]["complete"] = True
            keep_part(result)
    for table in tables.tables(result):
        tables.show(table)
    if old is not None:
        tables.show(tables.compared(result, old))
    written = [str(json_file)] if json_file is not None else []
    written += [str(report / "bench.html"), str(report / "bench.json")] if report is not None else []
    print(f"results in {', '.join(written)}" if written else "results kept nowhere; give --json FILE or --report DIR")
    return 0


def _whole(name: str, *, required: bool) -> Any:
    """The module of a suite that needs more than torch; None where something is missing and it is not required."""
    try:
        return importlib.import_module(f"fastgan.bench.networks.{name}")
    except ImportError as error:
        if required:
            raise InputError(f"bench {name}: needs the package {error.name}; pip install fastgan") from None
        return None


def _check_writable(json_file: Path | None, report: Path | None) -> None:
    if json_file is not None and (json_file.is_dir() or not json_file.parent.is_dir()):
        raise InputError(f"--json {json_file}: cannot be written; give a file in a folder that exists")
    if report is not None:
        try:
            report.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--report {report}: cannot be created ({error.strerror})") from None


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
