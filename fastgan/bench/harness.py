"""What the benchmarks of whole networks share: providers in workers, a check of each, rounds, rows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastgan.bench import results, timing
from fastgan.bench.ops.providers import OURS, is_ours
from fastgan.bench.results import Result, Row
from fastgan.bench.timing import Effort, Sample
from fastgan.bench.worker_process import Worker, WorkerError
from fastgan.precision import select_device, select_dtype
from fastgan.profiling.convolutions import ConvolutionCounts, floor_seconds, total_operations
from fastgan.utils.format import dtype_name, round_significant

Tell = Callable[[str], None]

#: What all others are compared with.
TRUTH = "eager-float32"


@dataclass(frozen=True)
class Provider:
    """Who runs a case, in which arithmetic; ``options`` go to ``open_provider`` of the suite's module."""

    name: str
    dtype: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.name}-{self.dtype}"


@dataclass(frozen=True)
class Verdict:
    """Whether a provider computes what it should, and by what it is judged: keys of its row."""

    correct: bool
    measures: dict[str, float | None]


@dataclass(frozen=True)
class Plan:
    """One case of a suite.

    Attributes:
        module: has ``open_provider``.
        images: made or learnt from in one call.
        operations: that a call cannot do without.
        floor: dtype -> seconds that torch takes for them.
        judge: (result, truth, dtype) -> verdict.
    """

    suite: str
    case: str
    device: str
    module: str
    providers: Sequence[Provider]
    images: int
    operations: float
    floor: Mapping[str, float]
    judge: Callable[[dict[str, Tensor], dict[str, Tensor], str], Verdict]


def ours(device: str) -> list[Provider]:
    """fastgan in its default precision, and in float32 where that is another."""
    default = dtype_name(select_dtype("auto", select_device(device)))
    found = [Provider(OURS, default, {"precision": "auto"})]
    return found if default == "float32" else [*found, Provider(OURS, "float32", {"precision": "fp32"})]


def allow_tf32(device: str) -> None:
    """float32 as people run it on a GPU, for whoever is measured in this process."""
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True


def measured(plan: Plan, effort: Effort, tell: Tell, skipped: list[str]) -> list[Row]:
    """Open every provider, check it, let them take turns; a row each. Who cannot take part goes into ``skipped``."""

    def leave_out(provider: Provider, reason: WorkerError) -> None:
        skipped.append(f"{provider.name}, {plan.case} {provider.dtype}: {reason}")
        tell(f"left out: {skipped[-1]}")

    with tempfile.TemporaryDirectory() as folder, ExitStack() as closing:
        workers: dict[str, Worker] = {}
        for provider in plan.providers:
            tell(f"{plan.case}: opening {provider.name} {provider.dtype}")
            options = {**provider.options, "device": plan.device, "dtype": provider.dtype}
            try:
                worker = Worker(plan.module, options, Path(folder), device=plan.device, name=provider.label)
            except WorkerError as error:
                leave_out(provider, error)
                continue
            workers[provider.label] = closing.enter_context(worker)
        by_label = {provider.label: provider for provider in plan.providers}
        verdicts = _verdicts(plan, by_label, workers)
        while workers:
            try:
                samples = _rounds(workers, effort, plan.device)
                peaks = {label: _asked(workers, label, Worker.peak_mb) for label in workers}
                break
            except _Ended as ended:
                leave_out(by_label[ended.label], ended.reason)
                workers.pop(ended.label)
        else:
            return []
    rows = [_row(plan, by_label[label], samples[label], verdicts[label], peaks[label]) for label in workers]
    add_ratios(rows)
    for row in rows:
        if is_ours(row["provider"]):
            tell(summary(row))
    return rows


def add_ratios(rows: Sequence[Row]) -> None:
    """``ratio_to_best_peer``: the best of the right peers in the same arithmetic or in float32; ``ratio_to``: each of
    them, for fastgan. A wrong result gets none and is nobody's peer."""
    peers = [row for row in rows if row["correct"] and not is_ours(row["provider"])]
    for row in rows:
        times = [peer["ms_median"] for peer in peers if peer["dtype"] in (row["dtype"], "float32")]
        if not row["correct"]:
            continue
        if times:
            row["ratio_to_best_peer"] = round_significant(min(times) / row["ms_median"], 4)
        if is_ours(row["provider"]):
            row["ratio_to"] = {
                f"{peer['provider']}-{peer['dtype']}": round_significant(peer["ms_median"] / row["ms_median"], 4)
                for peer in peers
            }


def summary(row: Row) -> str:
    """One line on a row of fastgan's."""
    text = f"{row['case']} {row['dtype']}: {row['ms_median']:.4g} ms, {row['peak_mb']:.0f} MB"
    if not row["correct"]:
        return f"{text}, WRONG"
    return ", ".join([text, *(f"{ratio:.2f}x {peer}" for peer, ratio in row["ratio_to"].items())])


class _Ended(Exception):
    def __init__(self, label: str, reason: WorkerError) -> None:
        self.label, self.reason = label, reason


def _asked(workers: Mapping[str, Worker], label: str, ask: Callable[[Worker], float]) -> float:
    try:
        return ask(workers[label])
    except WorkerError as error:
        raise _Ended(label, error) from None


def _rounds(workers: Mapping[str, Worker], effort: Effort, device: str) -> dict[str, Sample]:
    def seconds(label: str, count: int) -> float:
        return _asked(workers, label, lambda worker: worker.seconds(count)) / count

    if device == "cuda":  # it chooses algorithms and raises its clock first
        for label in workers:
            seconds(label, 10)
    # Between processes a GPU changes its context; on a CPU whatever is measured takes longer than this.
    return timing.in_turns(list(workers), seconds, effort, sample_seconds=0.1 if device == "cuda" else 0.01)


def _verdicts(plan: Plan, providers: Mapping[str, Provider], workers: Mapping[str, Worker]) -> dict[str, Verdict]:
    if TRUTH not in workers:
        return {label: Verdict(False, {}) for label in workers}
    truth = workers[TRUTH].result()
    return {label: plan.judge(worker.result(), truth, providers[label].dtype) for label, worker in workers.items()}


def _row(plan: Plan, provider: Provider, sample: Sample, verdict: Verdict, peak_mb: float) -> Row:
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
        gflop_per_s=round_significant(plan.operations / sample.median / 1e6),
        fraction_of_limit=round_significant(plan.floor[provider.dtype] * 1e3 / sample.median),
        correct=verdict.correct,
        img_per_s=round_significant(plan.images / sample.median * 1e3),
        peak_mb=round(peak_mb),
        **verdict.measures,
    )
    return row


def add_floor(
    result: Result,
    case: str,
    needed: ConvolutionCounts,
    providers: Sequence[Provider],
    device: str,
    *,
    quick: bool,
    tell: Tell,
) -> dict[str, float]:
    """Measure the convolutions that a case needs in every dtype of its providers: seconds by dtype.

    Into the header's ceilings go milliseconds, and the operations (10^9).
    """
    operations = total_operations(needed)
    ceilings = result["header"]["ceilings"]
    ceilings[f"{case}_convolutions_gflop"] = round(operations / 1e9, 2)
    limits = {}
    for dtype in sorted({provider.dtype for provider in providers}):
        limits[dtype] = floor_seconds(needed, getattr(torch, dtype), device, quick=quick)
        ceilings[f"{case}_convolutions_{dtype}_ms"] = round(limits[dtype] * 1e3, 3)
    told = ", ".join(f"{dtype} {seconds * 1e3:.4g} ms" for dtype, seconds in limits.items())
    tell(f"{case}: {operations / 1e9:.0f} GFLOP of convolution, which alone take {told}")
    return limits
