"""The benchmark of whole networks: providers in worker processes, a check of each, interleaved rounds, rows."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastgan.bench import results, timing
from fastgan.bench.ops.providers import FASTGAN, is_fastgan
from fastgan.bench.results import Log, Result, Row
from fastgan.bench.timing import QUICK, Sample, TimingBudget
from fastgan.bench.worker_process import Worker, WorkerError
from fastgan.precision import select_device, select_dtype
from fastgan.profiling.convolutions import ConvolutionCounts, floor_seconds, total_operations
from fastgan.utils.format import dtype_name, round_significant

#: The provider whose results all others are checked against.
REFERENCE = "eager-float32"


@dataclass(frozen=True)
class Provider:
    """An implementation in one dtype; ``options`` go to ``make_provider`` of the suite's module."""

    name: str
    dtype: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.name}-{self.dtype}"


@dataclass(frozen=True)
class Check:
    """Whether a provider's result is correct, and the measures that decide it: keys of its row."""

    correct: bool
    measures: dict[str, float | None]


@dataclass(frozen=True)
class BenchmarkPlan:
    """One case of a suite.

    Attributes:
        module: has ``make_provider``.
        images: processed in one call.
        convolutions: that a call cannot do without.
        check: (result, reference, dtype) -> Check.
        budget: unless the benchmark is a quick one.
        facts: what the header has under the suite's name.
    """

    suite: str
    case: str
    device: str
    module: str
    providers: Sequence[Provider]
    images: int
    convolutions: ConvolutionCounts
    check: Callable[[dict[str, Tensor], dict[str, Tensor], str], Check]
    budget: TimingBudget = field(default_factory=TimingBudget)
    facts: Mapping[str, Any] = field(default_factory=dict)


def run(
    plan: BenchmarkPlan,
    *,
    quick: bool = False,
    log: Log = lambda _: None,
    keep: Callable[[Result], None] = lambda _: None,
    result: Result | None = None,
) -> Result:
    """Measure a case of whole networks; the header and rows of ``bench --json``.

    Args:
        quick: two rounds, and the floor timed once: whether it works, not how fast it is.
        log: gets a line for each provider.
        keep: gets the result.
        result: what the rows are added to; by default a new one.
    """
    begin = time.monotonic()
    result = result or {"header": results.header(plan.device), "rows": []}
    header = result["header"]
    allow_tf32(plan.device)
    floor = measure_floor(plan, header["ceilings"], quick=quick, log=log)
    result["rows"] += measure(plan, floor, QUICK if quick else plan.budget, log, header["skipped"])
    header[plan.suite] = dict(plan.facts)
    results.finish(result, begin)
    keep(result)
    return result


def fastgan_providers(device: str) -> list[Provider]:
    """fastgan in its default precision, and in float32 where that is another."""
    default = dtype_name(select_dtype("auto", select_device(device)))
    providers = [Provider(FASTGAN, default, {"precision": "auto"})]
    return providers if default == "float32" else [*providers, Provider(FASTGAN, "float32", {"precision": "fp32"})]


def allow_tf32(device: str) -> None:
    """Let float32 products in this process use TF32 on a GPU, as most training code does."""
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True


def measure_floor(plan: BenchmarkPlan, ceilings: dict[str, float], *, quick: bool, log: Log) -> dict[str, float]:
    """Seconds that the convolutions of a case take by themselves, by dtype of its providers.

    The ceilings get them in milliseconds, and the operations (10^9).
    """
    operations = total_operations(plan.convolutions)
    ceilings[f"{plan.case}_convolutions_gflop"] = round(operations / 1e9, 2)
    floor = {}
    for dtype in sorted({provider.dtype for provider in plan.providers}):
        floor[dtype] = floor_seconds(plan.convolutions, getattr(torch, dtype), plan.device, quick=quick)
        ceilings[f"{plan.case}_convolutions_{dtype}_ms"] = round(floor[dtype] * 1e3, 3)
    times = ", ".join(f"{dtype} {seconds * 1e3:.4g} ms" for dtype, seconds in floor.items())
    log(f"{plan.case}: {operations / 1e9:.0f} GFLOP of convolution, which alone take {times}")
    return floor


def measure(
    plan: BenchmarkPlan, floor: Mapping[str, float], budget: TimingBudget, log: Log, skipped: list[str]
) -> list[Row]:
    """Start every provider, check it and time it in turns; one row each. Those that fail are added to ``skipped``.

    Args:
        floor: dtype -> seconds of the case's convolutions.
    """

    def skip(provider: Provider, reason: WorkerError) -> None:
        skipped.append(f"{provider.name}, {plan.case} {provider.dtype}: {reason}")
        log(f"left out: {skipped[-1]}")

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for provider in plan.providers:
            log(f"{plan.case}: opening {provider.name} {provider.dtype}")
            options = {**provider.options, "device": plan.device, "dtype": provider.dtype}
            try:
                worker = Worker(plan.module, options, Path(folder), device=plan.device, name=provider.label)
            except WorkerError as error:
                skip(provider, error)
                continue
            workers[provider.label] = stack.enter_context(worker)
        by_label = {provider.label: provider for provider in plan.providers}
        checks = _check_results(plan, by_label, workers)
        while workers:
            try:
                samples = _time_workers(workers, budget, plan.device)
                peaks = {label: _request(workers, label, Worker.peak_mb) for label in workers}
                break
            except _WorkerEnded as ended:
                skip(by_label[ended.label], ended.reason)
                workers.pop(ended.label)
        else:
            return []
    rows = [_row(plan, floor, by_label[label], samples[label], checks[label], peaks[label]) for label in workers]
    add_ratios(rows)
    for row in rows:
        if is_fastgan(row["provider"]):
            log(summary(row))
    return rows


def add_ratios(rows: Sequence[Row]) -> None:
    """Add ``ratio_to_best_peer``, and to fastgan's rows ``ratio_to`` with the ratio to every correct baseline."""
    results.add_ratios(rows)
    baselines = results.correct_baselines(rows)
    for row in rows:
        if row["correct"] and is_fastgan(row["provider"]):
            row["ratio_to"] = {
                f"{baseline['provider']}-{baseline['dtype']}": round_significant(
                    baseline["ms_median"] / row["ms_median"], 4
                )
                for baseline in baselines
            }


def summary(row: Row) -> str:
    """One line about a row of fastgan."""
    text = f"{row['case']} {row['dtype']}: {row['ms_median']:.4g} ms, {row['peak_mb']:.0f} MB"
    if not row["correct"]:
        return f"{text}, WRONG"
    return ", ".join([text, *(f"{ratio:.2f}x {baseline}" for baseline, ratio in row["ratio_to"].items())])


class _WorkerEnded(Exception):
    def __init__(self, label: str, reason: WorkerError) -> None:
        self.label, self.reason = label, reason


def _request(workers: Mapping[str, Worker], label: str, request: Callable[[Worker], float]) -> float:
    try:
        return request(workers[label])
    except WorkerError as error:
        raise _WorkerEnded(label, error) from None


def _time_workers(workers: Mapping[str, Worker], budget: TimingBudget, device: str) -> dict[str, Sample]:
    def seconds(label: str, count: int) -> float:
        return _request(workers, label, lambda worker: worker.seconds(count)) / count

    if device == "cuda":  # it chooses algorithms and raises its clock first
        for label in workers:
            seconds(label, 10)
    # Between processes a GPU changes its context; on a CPU every call takes longer than this.
    return timing.interleave(list(workers), seconds, budget, sample_seconds=0.1 if device == "cuda" else 0.01)


def _check_results(
    plan: BenchmarkPlan, providers: Mapping[str, Provider], workers: Mapping[str, Worker]
) -> dict[str, Check]:
    if REFERENCE not in workers:
        return {label: Check(False, {}) for label in workers}
    reference = workers[REFERENCE].result()
    return {label: plan.check(worker.result(), reference, providers[label].dtype) for label, worker in workers.items()}


def _row(
    plan: BenchmarkPlan, floor: Mapping[str, float], provider: Provider, sample: Sample, check: Check, peak_mb: float
) -> Row:
    row: Row = dict.fromkeys(results.ROW_KEYS)
    row.update(
        suite=plan.suite,
        case=plan.case,
        provider=provider.name,
        device=plan.device,
        dtype=provider.dtype,
        ms_median=round_significant(sample.median),
        ms_p20=round_significant(sample.p20),
        ms_p80=round_significant(sample.p80),
        gflop_per_s=round_significant(total_operations(plan.convolutions) / sample.median / 1e6),
        fraction_of_limit=round_significant(floor[provider.dtype] * 1e3 / sample.median),
        correct=check.correct,
        img_per_s=round_significant(plan.images / sample.median * 1e3),
        peak_mb=round(peak_mb),
        **check.measures,
    )
    return row
