"""``fastgan bench`` and ``python -m fastgan.bench``: measure, print, write."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from fastgan.bench.options import SUITES
from fastgan.errors import InputError
from fastgan.utils.format import printable
from fastgan.utils.json_output import check_json_target, is_stdout, write_json

if TYPE_CHECKING:
    from fastgan.bench.results import Result

#: Suites of whole networks, which need more packages than torch.
_NETWORK_SUITES = ("train", "infer")


def bench(
    suite: str = "all",
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
    from fastgan.bench import results, tables
    from fastgan.bench.ops import op_benchmarks
    from fastgan.bench.triton import tune as tuning

    older = _validate(suite, device, json_file, report, compare, only, tune)
    if tune:
        tuning.require_gpu(device)
        ops = only or op_benchmarks.op_names()
        tuning.tune((case for op in ops for case in op_benchmarks.cases(op, device, quick=quick)), log=_log)
    # Names of ops select among the ops, and leave the other suites out.
    suites = ["ops"] if only and suite == "all" else [name for name in SUITES[:-1] if suite in (name, "all")]
    modules = {name: _network_module(name, required=suite != "all") for name in suites if name in _NETWORK_SUITES}
    result: Result = {"header": results.header(device), "rows": []}
    for number, name in enumerate(suites):

        def keep(result: Result, more: bool = number + 1 < len(suites)) -> None:
            result["header"]["complete"] &= not more
            _write(result, older, json_file, report)

        _run_suite(name, modules.get(name), result, device, only, quick, compiled, keep)
    if json_file is not None and is_stdout(json_file):
        write_json(json_file, result, indent=1)
        return 0
    for table in tables.tables(result):
        tables.show(table)
    if older is not None:
        tables.show(tables.compare(result, older))
    files = [printable(json_file)] if json_file is not None else []
    files += [printable(report / name) for name in ("bench.html", results.REPORT_JSON)] if report is not None else []
    print(f"results in {', '.join(files)}" if files else "results kept nowhere; give --json FILE or --report DIR")
    return 0


def _validate(
    suite: str,
    device: str,
    json_file: Path | None,
    report: Path | None,
    compare: Path | None,
    only: Sequence[str],
    tune: bool,
) -> Result | None:
    """Raise InputError for bad input, then make the report's folder; the older result to compare with."""
    if suite not in SUITES:
        raise InputError(f"{suite}: there is no such benchmark; expected one of {', '.join(SUITES)}")
    for option, value in (("--only", only if suite != "loader" else ()), ("--tune", tune)):
        if value and suite not in ("ops", "all"):
            raise InputError(f"{option}: is for the ops; leave it out or give bench ops {option}")

    from fastgan.bench import results
    from fastgan.bench.loader import suite as loader
    from fastgan.bench.ops import suite as ops

    ops.validate(device, () if suite == "loader" else only)
    if suite == "loader":
        loader.validate(only)
    older = None if compare is None else results.read(compare, "--compare")
    if older is not None and not any(row["device"] == device for row in older["rows"]):
        raise InputError(f"--compare {compare}: has nothing that was measured on {device}; give another --device")
    check_json_target(json_file)
    if report is not None:
        try:
            report.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--report {report}: cannot be created ({error.strerror})") from None
    return older


def _run_suite(
    name: str,
    module: ModuleType | None,
    result: Result,
    device: str,
    only: Sequence[str],
    quick: bool,
    compiled: bool | None,
    keep: Callable[[Result], None],
) -> None:
    """Add the rows of a suite to ``result``; ``module`` is that of a network suite, None if packages are missing."""
    from fastgan.bench import harness
    from fastgan.bench.loader import suite as loader
    from fastgan.bench.ops import suite as ops

    if name == "ops":
        ops.run(device, only=only, quick=quick, compiled=compiled, log=_log, keep=keep, result=result)
    elif name == "loader":
        loader.run(device, only=only, quick=quick, log=_log, keep=keep, result=result)
    elif module is not None:
        plan = module.plan(device, quick=quick, compiled=compiled)
        harness.run(plan, quick=quick, log=_log, keep=keep, result=result)
    else:
        result["header"]["skipped"].append(f"{name}: needs the packages of fastgan's own pip install")
        _log(f"left out: {result['header']['skipped'][-1]}")
        result["header"]["complete"] = True
        keep(result)


def _network_module(name: str, *, required: bool) -> ModuleType | None:
    """The module of a network suite; None if packages are missing and it is not required."""
    try:
        return importlib.import_module(f"fastgan.bench.networks.{name}")
    except ImportError as error:
        if required:
            raise InputError(f"bench {name}: needs the package {error.name}; pip install fastgan") from None
        return None


def _write(result: Result, older: Result | None, json_file: Path | None, report: Path | None) -> None:
    from fastgan.bench import html, results, tables
    from fastgan.utils.files import write_text

    if json_file is not None and not is_stdout(json_file):  # of whole results alone, at the end
        write_json(json_file, result, indent=1)
    if report is not None:
        comparison = None if older is None else tables.compare(result, older)
        write_text(report / results.REPORT_JSON, results.to_text(result))
        write_text(report / "bench.html", html.page(result, comparison))


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
