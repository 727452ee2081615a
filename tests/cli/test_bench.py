"""``fastgan bench``, and ``python -m fastgan.bench`` with torch alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.command_line import Command
from helpers.machine import needs


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fastgan.bench import results
    from fastgan.bench.ops import suite

    file = tmp_path_factory.mktemp("older") / "older.json"
    file.write_text(results.to_text(suite.run(only=["to_pixels"], quick=True)))
    return file


def test_bench(fastgan: Command, tmp_path: Path, older: Path) -> None:
    file, folder = tmp_path / "result.json", tmp_path / "new" / "report"
    given = ("--quick", "--only", "to_pixels", "--json", file, "--report", folder, "--compare", older)
    done = fastgan("bench", "ops", *given)
    assert done.code == 0
    assert "to_pixels" in done.out and "now / then" in done.out
    assert done.out.splitlines()[-1] == f"results in {file}, {folder}/bench.html, {folder}/bench.json"
    assert "to_pixels-2x3x13x17-nchw float32 forward" in done.err
    result = json.loads(file.read_text())
    assert result == json.loads((folder / "bench.json").read_text())
    assert {row["case"].partition("-")[0] for row in result["rows"]} == {"to_pixels"}
    assert "to_pixels" in (folder / "bench.html").read_text()
    assert sorted(path.name for path in folder.iterdir()) == ["bench.html", "bench.json"]


def test_without_files(fastgan: Command) -> None:
    done = fastgan("bench", "--quick", "--only", "to_pixels, from_pixels")
    assert done.code == 0 and "--json FILE" in done.out.splitlines()[-1]
    assert "from_pixels" in done.out and "to_pixels" in done.out


@pytest.mark.parametrize("what,case", [("train", "step-64-b2"), ("infer", "stylize-64-b1")])
def test_whole_networks(what: str, case: str, fastgan: Command, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    done = fastgan("bench", what, "--quick", "--json", file)
    assert done.code == 0, done
    result = json.loads(file.read_text())
    header, rows = result["header"], result["rows"]
    assert header["complete"] and header["seconds"] > 0 and f"{case}_convolutions_float32_ms" in header["ceilings"]
    assert {("fastgan", "float32"), ("eager", "float32"), ("eager", "bfloat16")} <= {
        (row["provider"], row["dtype"]) for row in rows
    }
    for row in rows:
        assert row["suite"] == what and row["case"] == case and row["device"] == "cpu" and row["gb_per_s"] is None
        assert row["correct"] is True and row["ratio_to_best_peer"] > 0, row
        assert 0 < row["ms_p20"] <= row["ms_median"] <= row["ms_p80"]
        assert row["gflop_per_s"] > 0 and row["fraction_of_limit"] > 0
        assert row["img_per_s"] > 0 and row["peak_mb"] > 100
        assert ("ratio_to" in row) == (row["provider"] == "fastgan")
    assert "fastgan float32" in done.out and max(map(len, done.out.split("vs best:")[0].splitlines())) <= 100
    assert f"{case}: opening eager float32" in done.err


BAD = {
    "device": (["--device", "tpu"], ["--device tpu", "cpu", "cuda"]),
    "what": (["opps"], ["opps", "ops", "loader", "all"]),
    "op of the step": (["train", "--only", "ssim"], ["--only", "for the ops"]),
    "tuning the step": (["infer", "--tune"], ["--tune", "for the ops"]),
    "device of the step": (["train", "--device", "tpu"], ["--device tpu", "cpu", "cuda"]),
    "op": (["--only", "ssim,sim"], ["--only sim", "no such op", "ssim"]),
    "loader": (["loader", "--only", "dali"], ["--only dali", "no such loader", "webdataset"]),
    "json in no folder": (["--json", "{p}/none/result.json"], ["{p}/none/result.json", "folder that exists"]),
    "json is a folder": (["--json", "{p}"], ["--json {p}", "cannot be written"]),
    "report under a file": (["--report", "{p}/text.json/report"], ["{p}/text.json/report", "cannot be created"]),
    "compare missing": (["--compare", "{p}/none.json"], ["--compare {p}/none.json", "no such file"]),
    "compare is a folder": (["--compare", "{p}"], ["--compare {p}", "is a folder"]),
    "compare with text": (["--compare", "{p}/text.json"], ["{p}/text.json", "JSON", "fastgan bench --json"]),
    "compare with a list": (["--compare", "{p}/list.json"], ["{p}/list.json", "no result of a benchmark"]),
    "compare with other rows": (["--compare", "{p}/rows.json"], ["{p}/rows.json", "no result of a benchmark"]),
    "compare with another device": (["--compare", "{p}/cuda.json"], ["{p}/cuda.json", "measured on cpu"]),
    "unknown option": (["--jsn", "x"], ["--jsn"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, fastgan: Command, tmp_path: Path, older: Path) -> None:
    (tmp_path / "text.json").write_text("no JSON")
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "rows.json").write_text('{"header": {}, "rows": [{"case": "ssim"}]}')
    (tmp_path / "cuda.json").write_text(older.read_text().replace('"cpu"', '"cuda"'))
    before = sorted(tmp_path.rglob("*"))
    options, says = ([part.replace("{p}", str(tmp_path)) for part in parts] for parts in BAD[case])
    complaint = fastgan("bench", *options).complaint
    assert all(part in complaint for part in says), complaint
    assert sorted(tmp_path.rglob("*")) == before


@needs("no GPU")
def test_no_gpu(fastgan: Command, tmp_path: Path) -> None:
    complaint = fastgan("bench", "--device", "cuda", "--report", tmp_path / "r").complaint
    assert "--device cuda: torch sees no GPU" in complaint
    assert not (tmp_path / "r").exists()


def test_with_torch_alone(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    hidden = ("pydantic", "typer", "rich", "yaml", "safetensors", "skimage", "kornia", "pytest")
    code = f"""
import runpy, sys
for name in {hidden!r}:
    sys.modules[name] = None
sys.argv = ["bench", "ops", "--quick", "--only", "to_pixels", "--json", {str(file)!r}]
runpy.run_module("fastgan.bench", run_name="__main__")
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"results in {file}" and "fastgan-reference" in done.stdout
    rows = json.loads(file.read_text())["rows"]
    assert {"fastgan", "eager"} <= {row["provider"] for row in rows}


def test_the_module_refuses_in_one_line() -> None:
    command = [sys.executable, "-m", "fastgan.bench", "ops", "--only", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "--only nothing" in done.stderr
