"""``fastgan bench ops``: every op by every provider, interleaved, checked, and set against the machine's ceilings."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from fastgan.bench import results, timing
from fastgan.bench.ops.op_benchmark import Case
from fastgan.bench.ops.op_benchmarks import cases, op_names
from fastgan.bench.ops.providers import OURS, is_ours, providers
from fastgan.bench.results import Result, Row, rounded
from fastgan.bench.roofline import Ceilings
from fastgan.bench.timing import Effort, Function, InputSet, Sample
from fastgan.errors import InputError, first_line
from fastgan.ops._registry import record_backends

Tell = Callable[[str], None]


def run(
    device: str = "cpu",
    *,
    only: Sequence[str] = (),
    quick: bool = False,
    effort: Effort | None = None,
    compiled: bool | None = None,
    tell: Tell = lambda _: None,
    keep: Callable[[Result], None] = lambda _: None,
    result: Result | None = None,
) -> Result:
    """Measure the ops; the header and rows of ``bench --json``.

    Args:
        only: names of ops; all of them when empty.
        quick: tiny sizes and two rounds: whether it works, not how fast it is.
        compiled: whether torch.compile takes part; by default unless quick.
        tell: gets a line for each case.
        keep: gets the unfinished result after each op, so that one who is stopped has something.
        result: what the rows are added to; by default a new one.

    Raises:
        InputError: an unknown device or op, or no GPU.
    """
    check(device, only)
    effort = effort or (timing.QUICK if quick else Effort())
    compiled = not quick if compiled is None else compiled
    result = result or {"header": results.header(device), "rows": []}
    ceilings = Ceilings(device, quick=quick)
    works: list[tuple[Row, tuple[int, float, bool], torch.dtype]] = []
    begin = time.monotonic()
    chosen = [op for op in op_names() if not only or op in only]
    for number, op in enumerate(chosen):
        ceilings.measure()
        if number == 0:
            tell("ceilings: " + ", ".join(f"{name} {value:.0f}" for name, value in ceilings.values.items()))
        of_op = list(cases(op, device, quick=quick))
        for place, case in enumerate(of_op):
            skipped: list[str] = []
            rows, work = _measure(case, effort, compiled, quick, skipped)
            for line in skipped:
                tell(f"left out: {line}")
            result["header"]["skipped"] += skipped
            result["rows"] += rows
            works += [(row, work, case.dtype) for row in rows]
            tell(f"[{number + 1}/{len(chosen)} {place + 1}/{len(of_op)}] {_summary(case, rows)}")
        for row, (moved, operations, matrix), dtype in works:
            least = ceilings.least_seconds(moved, operations, dtype, matrix)
            row["fraction_of_limit"] = rounded(least / row["ms_median"] * 1e3)
        result["header"]["ceilings"] = ceilings.to_json()
        result["header"]["seconds"] = round(time.monotonic() - begin, 1)
        result["header"]["complete"] = number + 1 == len(chosen)
        keep(result)
    return result


def check(device: str, only: Sequence[str]) -> None:
    """Raises InputError for what cannot be measured."""
    if device not in ("cpu", "cuda"):
        raise InputError(f"--device {device}: expected one of cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no GPU; use --device cpu")
    for op in only:
        if op not in op_names():
            raise InputError(f"--only {op}: no such op; expected some of {', '.join(op_names())}")


def _measure(
    case: Case, effort: Effort, compiled: bool, quick: bool, skipped: list[str]
) -> tuple[list[Row], tuple[int, float, bool]]:
    with torch.no_grad():
        like = case.output(case.inputs(0), "reference")
    sets = timing.input_sets(case, like, few=quick)
    functions, errors = ready(case, sets[0], compiled=compiled, skipped=skipped)
    samples = timing.interleaved(case, functions, sets, effort)
    work = case.work(sets[0].inputs, like)
    rows = [_row(case, name, samples[name], errors[name], work) for name in functions]
    for row in rows:
        if row["provider"] == OURS:
            row["backend"] = _backend(case, sets[0])
    _add_ratios(rows)
    return rows, work


def _backend(case: Case, given: InputSet) -> str:
    """What a call takes by default."""
    with record_backends() as names:
        case.output(given.inputs)
    return names[0]


def ready(
    case: Case,
    given: InputSet,
    *,
    only: str | None = None,
    compiled: bool = True,
    skipped: list[str] | None = None,
) -> tuple[dict[str, Function], dict[str, float]]:
    """The providers that can serve a case, each called once, with their errors against float64.

    Those that cannot are left out; why goes into `skipped`, unless a package is not there or a backend refuses the
    case. `only` takes one.
    """
    truth = timing.expected(case, given)
    functions: dict[str, Function] = {}
    errors: dict[str, float] = {}
    for name, make in providers(case, compiled=compiled):
        if only not in (None, name):
            continue
        try:
            function = make()
            errors[name] = timing.error(timing.call(case, function, given.copied(case)), truth)
        except ImportError:
            continue
        except Exception as error:
            if name == OURS:
                raise
            refused = is_ours(name) and isinstance(error, ValueError)
            if skipped is not None and not refused:
                skipped.append(f"{name}, {case.name} {case.short_dtype} {case.suite}: {first_line(error)}")
            continue
        functions[name] = function
    return functions, errors


def _row(case: Case, provider: str, sample: Sample, error: float, work: tuple[int, float, bool]) -> Row:
    moved, operations, _ = work
    row: dict[str, Any] = dict.fromkeys(results.ROW_KEYS)
    row.update(
        suite=case.suite,
        case=case.name,
        provider=provider,
        device=case.device,
        dtype=case.short_dtype,
        ms_median=rounded(sample.median),
        ms_p20=rounded(sample.p20),
        ms_p80=rounded(sample.p80),
        gb_per_s=rounded(moved / sample.median / 1e6),
        gflop_per_s=rounded(operations / sample.median / 1e6),
        correct=error <= case.tolerance,
        error=rounded(error) if error < float("inf") else None,
    )
    return row


def _add_ratios(rows: list[Row]) -> None:
    """The best peer is the fastest that is right; a wrong result gets no ratio."""
    best = min((row["ms_median"] for row in rows if row["correct"] and not is_ours(row["provider"])), default=None)
    for row in rows:
        if row["correct"] and best is not None:
            row["ratio_to_best_peer"] = rounded(best / row["ms_median"], 4)


def _summary(case: Case, rows: list[Row]) -> str:
    ours = next(row for row in rows if row["provider"] == OURS)
    peers = [row for row in rows if row["correct"] and not is_ours(row["provider"])]
    best = min(peers, key=lambda row: row["ms_median"], default=None)
    text = f"{case.name} {case.short_dtype} {case.suite.removeprefix('ops-')}: {ours['ms_median']:.3g} ms"
    if not ours["correct"]:
        return f"{text}, WRONG"
    return text if best is None else f"{text}, {ours['ratio_to_best_peer']:.2f}x {best['provider']}"
