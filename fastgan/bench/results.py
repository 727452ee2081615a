"""Results of benchmarks: header and rows, as ``bench --json`` writes them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from fastgan.bench.ops.op_benchmark import TOLERANCES
from fastgan.bench.ops.providers import is_fastgan
from fastgan.bench.ops.third_party import PACKAGES
from fastgan.errors import InputError
from fastgan.profiling.environment import describe_environment
from fastgan.utils.files import read_json
from fastgan.utils.format import dtype_name, round_significant

ROW_KEYS = (
    "suite",
    "case",
    "provider",
    "device",
    "dtype",
    "ms_median",
    "ms_p20",
    "ms_p80",
    "gb_per_s",
    "gflop_per_s",
    "fraction_of_limit",
    "ratio_to_best_peer",
    "correct",
)
#: The result in the folder of ``--report``.
REPORT_JSON = "bench.json"
Row = dict[str, Any]
Result = dict[str, Any]
#: Takes lines about the progress.
Log = Callable[[str], None]


def header(device: str) -> dict[str, Any]:
    """The header of a new result; the ceilings are added as they are measured."""
    return {
        **describe_environment(torch.device(device), PACKAGES),
        "ceilings": {},
        "tolerances": {dtype_name(dtype): value for dtype, value in TOLERANCES.items()},
        "skipped": [],
        "complete": False,
    }


def read(path: Path, option: str) -> Result:
    """Read a result: what ``--json`` wrote, or the folder of ``--report``. Raises InputError, naming the option, for
    anything else."""
    if path.is_dir():
        path = path / REPORT_JSON
    try:
        result = read_json(path)
    except InputError as error:
        raise InputError(f"{option} {error}; give what fastgan bench --json or --report wrote") from None
    rows = result.get("rows") if isinstance(result, dict) else None
    if not isinstance(rows, list) or not rows or not all(_is_row(row) for row in rows):
        raise InputError(
            f"{option} {path}: is no result of a benchmark; give what fastgan bench --json or --report wrote"
        )
    return result


def finish(result: Result, begin: float) -> None:
    """Add the time since ``begin`` (of ``time.monotonic()``) to a header, and mark it as complete."""
    header = result["header"]
    header["seconds"] = round(header.get("seconds", 0.0) + time.monotonic() - begin, 1)
    header["complete"] = True


def key(row: Row) -> tuple[str, str, str, str, str]:
    """The identity of a row."""
    return row["suite"], row["case"], row["dtype"], row["device"], row["provider"]


def correct_baselines(rows: Sequence[Row]) -> list[Row]:
    """The rows that fastgan is compared with: other providers whose results are correct."""
    return [row for row in rows if row["correct"] and not is_fastgan(row["provider"])]


def add_ratios(rows: Sequence[Row]) -> None:
    """Add ``ratio_to_best_peer`` to the rows of a case: the time of the fastest baseline over the row's.

    Baselines are those in the same dtype or in float32. Incorrect results get no ratio and are not used as a baseline.
    """
    baselines = correct_baselines(rows)
    for row in rows:
        times = [baseline["ms_median"] for baseline in baselines if baseline["dtype"] in (row["dtype"], "float32")]
        if row["correct"] and times:
            row["ratio_to_best_peer"] = round_significant(min(times) / row["ms_median"], 4)


def to_text(result: Result) -> str:
    return json.dumps(result, indent=1, allow_nan=False) + "\n"


def _is_row(row: object) -> bool:
    if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ROW_KEYS[:5]):
        return False
    median = row.get("ms_median")
    return isinstance(median, int | float) and not isinstance(median, bool) and 0 < median < math.inf
