"""The pages are true: figures are those of the result files, pictures and pages exist, examples run."""

import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastgan.config import Config
from fastgan.training import Trainer

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
RESULTS = BENCHMARKS / "results" / "epyc-2core"
QUALITY = BENCHMARKS / "results" / "epyc-avx2-2core"


def script(name: str) -> dict[str, Any]:
    """The names of a benchmark script."""
    sys.path.insert(0, str(BENCHMARKS))  # as running it would
    try:
        return runpy.run_path(str(BENCHMARKS / name))
    finally:
        sys.path.remove(str(BENCHMARKS))


def rows_of(page: str) -> list[str]:
    if page == "README.md":
        return script("tables/summary.py")["table"](QUALITY, RESULTS).splitlines()
    if page == "docs/results.md":
        return script("quality.py")["table"](QUALITY).splitlines()
    if page == "docs/article.md":
        return [row for table in script("article.py")["tables"](RESULTS) for row in table.splitlines()]
    if page == "docs/performance/ops.md":
        return table_of("tables/ops.py", RESULTS / "ops-cpu.json")
    if page == "docs/performance/triton.md":
        return table_of("tables/triton_kernels.py", RESULTS.parent / "triton-kernels.json")
    if page == "docs/performance/recipe.md":
        trade_off, judged = script("trade_off.py"), sorted(QUALITY.glob("judged-*.json"))
        return [row for file in judged for row in trade_off["table"](trade_off["read_points"]([file])).splitlines()]
    if page == "docs/performance/loader.md":
        return table_of("tables/loader.py", RESULTS / "loader.json")
    if page == "docs/performance/training-step.md":
        tables = (table_of("tables/networks.py", RESULTS / f"{name}-cpu.json") for name in ("train", "infer"))
        return [row for table in tables for row in table]
    return table_of("stability.py", RESULTS / "stability.json")


def table_of(name: str, result: Path) -> list[str]:
    """The table that a benchmark script makes of a result file."""
    return script(name)["table"](json.loads(result.read_text(encoding="utf-8"))).splitlines()


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/article.md",
        "docs/performance/loader.md",
        "docs/performance/ops.md",
        "docs/performance/recipe.md",
        "docs/performance/training-step.md",
        "docs/performance/triton.md",
        "docs/results.md",
        "docs/stability.md",
    ],
)
def test_figures_are_those_of_the_result_files(page: str) -> None:
    rows, text = rows_of(page), (ROOT / page).read_text(encoding="utf-8")
    assert len(rows) > 3 and [row for row in rows if row not in text] == []


@pytest.mark.parametrize(("page", "heading"), [("README.md", "Results"), ("docs/results.md", "Quality")])
def test_no_other_figures_stand_in_the_table(page: str, heading: str) -> None:
    _, _, section = (ROOT / page).read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    lines = section.partition("\n## ")[0].splitlines()
    assert [line for line in lines if line.startswith("|")] == rows_of(page)


@pytest.mark.parametrize(
    "page",
    [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)", prose)
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_embedding_runs(tmp_path: Path) -> None:
    """The snippets of the page, one after another as they stand."""
    page = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) > 10
    program = tmp_path / "embedding.py"
    program.write_text("\n".join(block for block in blocks if "import webdataset" not in block), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(program)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


def test_the_sweep_runs(tmp_path: Path, photos: Path, style_file: Path) -> None:
    """Every point of the grid, each with its rate and batch."""
    command = [
        sys.executable,
        str(ROOT / "examples" / "sweep.py"),
        "--content",
        str(photos),
        "--style",
        str(style_file),
    ]
    out = tmp_path / "sweep.json"
    command += ["--size", "32", "--steps", "1", "--json", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text())
    assert len(results) == 9 and {(each["optim.generator.lr"], each["data.batch"]) for each in results} == {
        (rate, size) for rate in (5e-4, 1e-3, 2e-3) for size in (2, 4, 8)
    }
    assert all(each["steps"] == 1 and -1 < each["ssim"] < 1 for each in results)
    assert len(done.stdout.splitlines()) == 10


def test_the_gallery(
    tiny: Callable[..., Config], tmp_path: Path, photos: Path, no_plots: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row a style: its painting, then the photographs, below those; any model that stylizes."""
    main = runpy.run_path(str(ROOT / "examples" / "gallery.py"))["main"]
    run, sheet = tmp_path / "run", tmp_path / "gallery.png"
    Trainer(tiny({"train.steps": 1}), out=run).fit()
    assert main([str(run), str(run / "model"), "--content", str(photos), "--count", "2", "--out", str(sheet)]) == 0
    shown = np.asarray(Image.open(sheet))
    assert shown.shape == (3 * 256 + 2 * 8, 3 * 256 + 2 * 8, 3)
    assert np.array_equal(shown[264:520], shown[528:]) and (shown[:256, :256] == 255).all()
    assert not np.array_equal(shown[264:520, 264:520], shown[:256, 264:520])
    capsys.readouterr()
    assert main([str(tmp_path / "none"), "--out", str(sheet)]) == 2
    assert capsys.readouterr().err.startswith("gallery: ")
