"""Providers in processes of their own, and the rows that come of them."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import providers_to_test
from torch import Tensor

from fastgan.bench import harness, results, tables
from fastgan.bench.harness import BenchmarkPlan, Check, Provider
from fastgan.bench.timing import QUICK
from fastgan.bench.worker_process import Worker, WorkerError

MODULE = providers_to_test.__name__


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    opened: list[Worker] = []

    def make(**options: Any) -> Worker:
        opened.append(Worker(MODULE, options, tmp_path, device="cpu", name="one"))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def test_it_gives_its_result_times_and_memory(worker: Callable[..., Worker]) -> None:
    one = worker(value=2.5, ms=20)
    assert one.result()["value"].item() == 2.5
    assert one.seconds() == pytest.approx(0.02) and one.seconds(3) == pytest.approx(0.06)
    assert 30 < one.peak_mb() < 10_000
    one.close()
    with pytest.raises(WorkerError, match="process ended"):
        one.seconds()


@pytest.mark.parametrize(
    "kind,says", [("missing", "needs nowhere_to_be_found"), ("fails", "ValueError: no such thing$")]
)
def test_what_cannot_be_opened_says_why(kind: str, says: str, worker: Callable[..., Worker]) -> None:
    with pytest.raises(WorkerError, match=says):
        worker(kind=kind)


def check_result(result: dict[str, Tensor], reference: dict[str, Tensor], dtype: str) -> Check:
    error = (result["value"] - reference["value"]).item()
    return Check(torch.equal(result["value"], reference["value"]), {"off": error})


def plan(*providers: tuple[str, str, dict[str, Any]]) -> BenchmarkPlan:
    return BenchmarkPlan(
        "train",
        "step-8-b2",
        "cpu",
        MODULE,
        [Provider(*provider) for provider in providers],
        images=2,
        convolutions=Counter(),
        check=check_result,
    )


def rows_of(*providers: tuple[str, str, dict[str, Any]], skipped: list[str] | None = None) -> dict[str, results.Row]:
    floor = {dtype: 5e-4 for _, dtype, _ in providers}
    rows = harness.measure(plan(*providers), floor, QUICK, lambda line: None, [] if skipped is None else skipped)
    assert all(set(results.ROW_KEYS) <= row.keys() for row in rows)
    return {f"{row['provider']}-{row['dtype']}": row for row in rows}


def test_an_incorrect_provider_gets_no_ratio_and_is_no_baseline() -> None:
    rows = rows_of(
        ("fastgan", "bfloat16", {"ms": 10}),
        ("fastgan", "float32", {"value": 1.5}),
        ("eager", "float32", {"ms": 40}),
        ("eager", "bfloat16", {"ms": 5, "value": 2.0}),
    )
    wrong = rows["fastgan-float32"], rows["eager-bfloat16"]
    assert [row["correct"] for row in wrong] == [False, False]
    assert all(row["ratio_to_best_peer"] is None and "ratio_to" not in row for row in wrong)
    right = rows["fastgan-bfloat16"]
    assert right["correct"] and set(right["ratio_to"]) == {"eager-float32"}
    assert right["ms_median"] == 10 and right["ratio_to_best_peer"] == 4
    assert right["img_per_s"] == 200 and right["fraction_of_limit"] == 0.05
    assert right["gb_per_s"] is None and right["peak_mb"] > 30
    (table,) = tables.tables({"header": {"machine": ""}, "rows": list(rows.values())})
    checks = {line[1].text: line[2].text for line in table.sections[0]}
    assert checks["fastgan float32"] == checks["eager bfloat16"] == "wrong"


def test_baselines_in_less_precision_do_not_count_for_the_best() -> None:
    rows = rows_of(
        ("fastgan", "float32", {"ms": 20}), ("eager", "float32", {"ms": 40}), ("eager", "bfloat16", {"ms": 1})
    )
    ours = rows["fastgan-float32"]
    assert ours["ratio_to_best_peer"] == ours["ratio_to"]["eager-float32"] == 2
    assert ours["ratio_to"]["eager-bfloat16"] == 0.05


def test_without_the_reference_nothing_is_correct() -> None:
    skipped: list[str] = []
    rows = rows_of(("fastgan", "float32", {}), ("eager", "float32", {"kind": "fails"}), skipped=skipped)
    assert [row["correct"] for row in rows.values()] == [False]
    assert skipped == ["eager, step-8-b2 float32: ValueError: no such thing"]


@pytest.mark.parametrize("kind,says", [("dies", "process ended with 3"), ("raises", "RuntimeError: not today")])
def test_one_that_ends_on_the_way_is_left_out(kind: str, says: str) -> None:
    skipped: list[str] = []
    rows = rows_of(("fastgan", "float32", {"kind": kind}), ("eager", "float32", {}), skipped=skipped)
    assert set(rows) == {"eager-float32"} and len(skipped) == 1 and says in skipped[0]


def test_one_that_ends_when_asked_for_its_memory_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    peak_mb = Worker.peak_mb

    def asked(worker: Worker) -> float:
        if worker._file.name.startswith("fastgan"):
            worker.close()
        return peak_mb(worker)

    monkeypatch.setattr(Worker, "peak_mb", asked)
    skipped: list[str] = []
    rows = rows_of(("fastgan", "float32", {}), ("eager", "float32", {}), skipped=skipped)
    assert set(rows) == {"eager-float32"} and len(skipped) == 1
