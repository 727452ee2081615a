"""The op benchmark as a whole: rows, ratios, what is left out; and its tables."""

import json
import sys
from typing import Any

import pytest
import torch
from helpers.machine import needs
from torch import Tensor

from fastgan import ops as public
from fastgan.bench import html, results, tables
from fastgan.bench.ops import suite
from fastgan.errors import InputError


@pytest.fixture(scope="module")
def result() -> results.Result:
    return suite.run(only=["psnr", "to_pixels"], quick=True)


def test_rows_and_header(result: results.Result) -> None:
    header, rows = result["header"], result["rows"]
    assert {"machine", "ceilings", "versions", "commit"} <= header.keys()
    assert header["complete"] and header["ceilings"]["copy_gb_per_s"] > 0
    assert header["versions"]["torch"] == torch.__version__
    assert all(set(results.ROW_KEYS) <= row.keys() for row in rows)
    assert {row["suite"] for row in rows} == {"ops-forward", "ops-gradient"}
    assert {row["dtype"] for row in rows} == {"float32", "bfloat16"}
    assert {"fastgan", "fastgan-reference", "eager"} <= {row["provider"] for row in rows}
    assert len({results.key(row) for row in rows}) == len(rows)
    for row in rows:
        assert row["device"] == "cpu" and row["correct"] is True
        assert 0 < row["ms_p20"] <= row["ms_median"] <= row["ms_p80"]
        assert row["gb_per_s"] > 0 and row["gflop_per_s"] > 0 and row["fraction_of_limit"] > 0
        assert ("backend" in row) == (row["provider"] == "fastgan")
    json.loads(results.to_text(result))


def test_ratios_are_to_the_best_baseline(result: results.Result) -> None:
    by_case: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in result["rows"]:
        by_case.setdefault(results.key(row)[:4], []).append(row)
    for rows in by_case.values():
        baselines = [row["ms_median"] for row in rows if not row["provider"].startswith("fastgan")]
        for row in rows:
            # Of four digits: half of the last is at most 5e-4 of it.
            assert row["ratio_to_best_peer"] == pytest.approx(min(baselines) / row["ms_median"], rel=5.001e-4)
        assert max(r["ratio_to_best_peer"] for r in rows if not r["provider"].startswith("fastgan")) == 1


def test_a_wrong_result_gets_no_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgan.bench.baselines.ops.to_pixels", lambda x: torch.zeros(1, dtype=torch.uint8))
    rows = suite.run(only=["to_pixels"], quick=True)["rows"]
    wrong = [row for row in rows if row["provider"] == "eager"]
    assert wrong and all(row["correct"] is False and row["ratio_to_best_peer"] is None for row in wrong)
    assert all(row["ratio_to_best_peer"] is None for row in rows)  # nor is it used as a baseline
    (table,) = tables.tables({"header": {"machine": ""}, "rows": rows})
    assert "wrong" in [line[2].text for line in table.sections[0]]


def test_a_provider_that_fails_is_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(x: Tensor) -> Tensor:
        raise RuntimeError("no kernel\nfor this")

    monkeypatch.setattr("fastgan.bench.baselines.ops.to_pixels", fails)
    result = suite.run(only=["to_pixels"], quick=True)
    assert "eager" not in {row["provider"] for row in result["rows"]}
    assert any(line.startswith("eager, to_pixels-") and "no kernel" in line for line in result["header"]["skipped"])


def test_a_backend_that_cannot_serve_has_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    real = public.to_pixels

    def refuses(x: Tensor, *, backend: str | None = None) -> Tensor:
        if backend == "native":
            raise ValueError("no gradient")
        return real(x, backend=backend)

    both = [{"op": "to_pixels", "backends": [{"name": "reference"}, {"name": "native"}]}]
    monkeypatch.setattr("fastgan.ops.report", lambda devices: {"forced": None, "ops": both})
    monkeypatch.setattr("fastgan.ops.to_pixels", refuses)
    result = suite.run(only=["to_pixels"], quick=True)
    assert {row["provider"] for row in result["rows"]} == {"fastgan", "fastgan-reference", "eager"}
    assert result["header"]["skipped"] == []


def test_unfinished_results_are_kept() -> None:
    seen: list[tuple[int, bool]] = []

    def keep(result: results.Result) -> None:
        seen.append((len(result["rows"]), result["header"]["complete"]))
        assert all(row["fraction_of_limit"] is not None for row in result["rows"])

    told: list[str] = []
    suite.run(only=["from_pixels", "to_pixels"], quick=True, keep=keep, log=told.append)
    assert [complete for _, complete in seen] == [False, True] and 0 < seen[0][0] < seen[1][0]
    assert "copy_gb_per_s" in told[0] and "to_pixels" in told[-1]


@pytest.mark.parametrize("device", ["tpu", pytest.param("cuda", marks=needs("no GPU"))])
def test_bad_devices(device: str) -> None:
    with pytest.raises(InputError, match=f"--device {device}"):
        suite.run(device)


def test_tables_fit_a_hundred_columns(
    result: results.Result, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):  # what is not a terminal would be taken for one
        monkeypatch.delenv(name, raising=False)
    drawn = tables.tables(result)
    assert [table.title.split()[0] for table in drawn] == ["psnr", "to_pixels"]
    for table in drawn:
        for section in table.sections:
            times = [float(line[3].text) for line in section if line[3].text]
            assert times == sorted(times)
        tables.show(table)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert not any("…" in line for line in lines)
    assert any("fastgan-reference" in line and "x" in line for line in lines)


def test_tables_without_rich(
    result: results.Result, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    for table in tables.tables(result):
        tables.show(table)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100 and any("fastgan-reference" in line for line in lines)


def test_comparison(result: results.Result) -> None:
    older = json.loads(results.to_text(result))
    for row in older["rows"]:
        row["ms_median"] *= 2 if row["provider"].startswith("fastgan") else 1
    older["rows"].pop()
    table = tables.compare(result, older)
    ratios = [line[4] for section in table.sections for line in section if line[4].text]
    assert len(ratios) == len(result["rows"]) - 1
    assert {cell.text for cell in ratios} == {"0.50x", "1.00x"}
    assert all(cell.style == ("good" if cell.text == "0.50x" else "") for cell in ratios)
    assert "0.50x fastgan" in table.caption and "1.00x baselines" in table.caption


def test_page(result: results.Result) -> None:
    text = html.page(result, tables.compare(result, result))
    assert "://" not in text and "<script" not in text
    assert text.count("<table>") == text.count('<div class="scroll"') > 1 and '<meta name="viewport"' in text
    assert all(word in text for word in ("to_pixels", "psnr", "copy_gb_per_s", "fastgan-reference", "now / then"))
