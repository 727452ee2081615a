"""``fastgan bench ops``: every op by every provider, in interleaved rounds, checked, and against the ceilings."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from fastgan.bench import results, timing
from fastgan.bench.ops.op_benchmark import OpCase, Workload
from fastgan.bench.ops.op_benchmarks import cases, op_names
from fastgan.bench.ops.providers import FASTGAN, is_fastgan, providers
from fastgan.bench.results import Log, Result, Row
from fastgan.bench.roofline import Ceilings
from fastgan.bench.timing import Function, InputSet, Sample, TimingBudget
from fastgan.errors import InputError, first_line
from fastgan.ops._registry import record_backends
from fastgan.utils.format import round_significant


def run(
    device: str = "cpu",
    *,
    only: Sequence[str] = (),
    quick: bool = False,
    budget: TimingBudget | None = None,
    compiled: bool | None = None,
    log: Log = lambda _: None,
    keep: Callable[[Result], None] = lambda _: None,
    result: Result | None = None,
) -> Result:
    """Measure the ops; the header and rows of ``bench --json``.

    Args:
        only: names of ops; all of them when empty.
        quick: tiny sizes and two rounds: whether it works, not how fast it is.
        compiled: whether torch.compile takes part; by default unless quick.
        log: gets a line for each case.
        keep: gets the unfinished result after each op, so that a run that is stopped has something.
        result: what the rows are added to; by default a new one.

    Raises:
        InputError: an unknown device or op, or no GPU.
    """
    validate(device, only)
    budget = budget or (timing.QUICK if quick else TimingBudget())
    compiled = not quick if compiled is None else compiled
    result = result or {"header": results.header(device), "rows": []}
    ceilings = Ceilings(device, quick=quick)
    workloads: list[tuple[Row, Workload, torch.dtype]] = []
    begin = time.monotonic()
    selected = [op for op in op_names() if not only or op in only]
    for number, op in enumerate(selected):
        ceilings.measure()
        if number == 0:
            log("ceilings: " + ", ".join(f"{name} {value:.0f}" for name, value in ceilings.values.items()))
        op_cases = list(cases(op, device, quick=quick))
        for case_number, case in enumerate(op_cases):
            skipped: list[str] = []
            rows, workload = _measure(case, budget, compiled, quick, skipped)
            for line in skipped:
                log(f"left out: {line}")
            result["header"]["skipped"] += skipped
            result["rows"] += rows
            workloads += [(row, workload, case.dtype) for row in rows]
            log(f"[{number + 1}/{len(selected)} {case_number + 1}/{len(op_cases)}] {_summary(case, rows)}")
        for row, workload, dtype in workloads:
            row["fraction_of_limit"] = round_significant(ceilings.min_seconds(workload, dtype) / row["ms_median"] * 1e3)
        result["header"]["ceilings"] = ceilings.to_json()
        result["header"]["seconds"] = round(time.monotonic() - begin, 1)
        result["header"]["complete"] = number + 1 == len(selected)
        keep(result)
    return result


def validate(device: str, only: Sequence[str]) -> None:
    """Raise InputError for a device or op that cannot be measured."""
    if device not in ("cpu", "cuda"):
        raise InputError(f"--device {device}: expected one of cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no GPU; use --device cpu")
    for op in only:
        if op not in op_names():
            raise InputError(f"--only {op}: no such op; expected some of {', '.join(op_names())}")


def _measure(
    case: OpCase, budget: TimingBudget, compiled: bool, quick: bool, skipped: list[str]
) -> tuple[list[Row], Workload]:
    with torch.no_grad():
        like = case.output(case.inputs(0), "reference")
    sets = timing.input_sets(case, like, few=quick)
    functions, errors = ready(case, sets[0], compiled=compiled, skipped=skipped)
    samples = timing.time_interleaved(case, functions, sets, budget)
    workload = case.workload(sets[0].inputs, like)
    rows = [_row(case, name, samples[name], errors[name], workload) for name in functions]
    for row in rows:
        if row["provider"] == FASTGAN:
            row["backend"] = _backend(case, sets[0])
    results.add_ratios(rows)
    return rows, workload


def _backend(case: OpCase, input_set: InputSet) -> str:
    """The backend that is chosen by default."""
    with record_backends() as names:
        case.output(input_set.inputs)
    return names[0]


def ready(
    case: OpCase,
    input_set: InputSet,
    *,
    only: str | None = None,
    compiled: bool = True,
    skipped: list[str] | None = None,
) -> tuple[dict[str, Function], dict[str, float]]:
    """The functions of the providers that support a case, and their errors against float64; each was called once.

    For the others, the reason is added to `skipped`, unless a package is missing or a backend does not support the
    case. `only` selects one provider.
    """
    reference = timing.reference_result(case, input_set)
    functions: dict[str, Function] = {}
    errors: dict[str, float] = {}
    for name, make in providers(case, compiled=compiled):
        if only not in (None, name):
            continue
        try:
            function = make()
            errors[name] = timing.max_relative_error(timing.call(case, function, input_set.clone(case)), reference)
        except ImportError:
            continue
        except Exception as error:
            if name == FASTGAN:
                raise
            unsupported = is_fastgan(name) and isinstance(error, ValueError)
            if skipped is not None and not unsupported:
                skipped.append(f"{name}, {case.name} {case.short_dtype} {case.suite}: {first_line(error)}")
            continue
        functions[name] = function
    return functions, errors


def _row(case: OpCase, provider: str, sample: Sample, error: float, workload: Workload) -> Row:
    row: dict[str, Any] = dict.fromkeys(results.ROW_KEYS)
    row.update(
        suite=case.suite,
        case=case.name,
        provider=provider,
        device=case.device,
        dtype=case.short_dtype,
        ms_median=round_significant(sample.median),
        ms_p20=round_significant(sample.p20),
        ms_p80=round_significant(sample.p80),
        gb_per_s=round_significant(workload.bytes_moved / sample.median / 1e6),
        gflop_per_s=round_significant(workload.operations / sample.median / 1e6),
        correct=error <= case.tolerance,
        error=round_significant(error) if error < float("inf") else None,
    )
    return row


def _summary(case: OpCase, rows: list[Row]) -> str:
    fastgan = next(row for row in rows if row["provider"] == FASTGAN)
    best = min(results.correct_baselines(rows), key=lambda row: row["ms_median"], default=None)
    text = f"{case.name} {case.short_dtype} {case.suite.removeprefix('ops-')}: {fastgan['ms_median']:.3g} ms"
    if not fastgan["correct"]:
        return f"{text}, WRONG"
    return text if best is None else f"{text}, {fastgan['ratio_to_best_peer']:.2f}x {best['provider']}"
