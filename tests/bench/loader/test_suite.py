"""The loader's benchmark: rows for fastgan and for the baselines that are installed, and nothing left behind."""

import json
import multiprocessing
import tempfile
from pathlib import Path

import pytest

from fastgan.bench import results, tables
from fastgan.bench.loader import pipelines, suite
from fastgan.data import jpeg
from fastgan.errors import InputError


def test_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    available, children = jpeg.AVAILABLE, set(multiprocessing.active_children())
    result = suite.run(quick=True, workers=1)
    assert not list(tmp_path.glob("fastgan*")) and set(multiprocessing.active_children()) <= children
    assert available == jpeg.AVAILABLE
    header, rows = result["header"], {row["provider"]: row for row in result["rows"]}
    assert {"fastgan", "fastgan-thread", "fastgan-pillow"} <= rows.keys() <= pipelines.PIPELINES.keys()
    assert header["complete"] and len(header["skipped"]) == len(pipelines.PIPELINES) - len(rows)
    assert header["photographs"]["count"] == 32 and 20_000 < header["photographs"]["mean_bytes"] < 200_000
    for row in rows.values():
        assert set(results.ROW_KEYS) <= row.keys() and (row["suite"], row["case"]) == ("loader", "jpeg-256-b16")
        assert row["correct"] and 0 < row["ms_p20"] <= row["ms_median"] <= row["ms_p80"]
        # Half of the last of four digits, and of five.
        assert row["img_per_s"] == pytest.approx(16e3 / row["ms_median"], rel=5.6e-4)
        assert row["cpu_ms_per_image"] > 0 and row["fraction_of_limit"] > 0
    json.loads(results.to_text(result))
    assert tables.tables(result)


def test_what_there_is_not() -> None:
    with pytest.raises(InputError, match="--only dali: no such loader; expected some of fastgan"):
        suite.run(only=["dali"], quick=True)
