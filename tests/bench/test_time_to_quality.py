"""Time to a named quality: a target reached at once, one never reached, and bad input."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastgan.bench import time_to_quality
from fastgan.bench.networks import step_setup
from fastgan.data import demo_style, enlarge_to, read_image
from fastgan.models import STYLE_LAYERS, VGGEncoder
from fastgan.training import Trainer
from fastgan.training.style_bank import Styles

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "time_to_quality.py"))
MAIN: Callable[[list[str]], int] = SCRIPT["main"]
_TINY = {"features": "random", "device": "cpu", "size": 32, "batch": 1, "every": 1, "photographs": 1, "steps": 2}
TINY = [text for name, value in _TINY.items() for text in (f"--{name}", str(value))]


@pytest.fixture
def small(photos: Path, style_file: Path) -> list[str]:
    """Pictures that are measured in a moment."""
    return ["--content", str(photos), "--style", str(style_file)]


def run(file: Path, *options: str) -> dict[str, Any]:
    assert MAIN(["run", "--json", str(file), *TINY, *options]) == 0
    return json.loads(file.read_text())


def test_reached_at_once(tmp_path: Path, small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "reached.json"
    options = ["--style-distance", "1e9", "--coverage", "0", "--lpips", "1e9", "--ssim", "-1"]
    result = run(file, *small, *options)
    assert result["header"]["target"] == {"style_distance": 1e9, "coverage": 0, "lpips": 1e9, "ssim": -1}
    ours, *theirs = result["rows"]
    for row, name in zip((ours, *theirs), ("fastgan", "eager", "published"), strict=True):
        assert row["provider"] == name and row["reached"] and row["ended"] == "reached" and row["steps"] == 1
        measures = {measure: row[measure] for measure in ("style_distance", "coverage", "lpips", "ssim")}
        assert row["curve"] == [{"steps": 1, "train_seconds": row["train_seconds"], **measures}]
    for row in theirs:
        assert row["ratio"] == row["train_seconds"] / ours["train_seconds"] and row["ratio_at_least"] is None
    shown = capsys.readouterr().out
    assert MAIN(["table", str(file)]) == 0 and shown.endswith(capsys.readouterr().out)


def test_never_reached(tmp_path: Path, small: list[str]) -> None:
    result = run(
        tmp_path / "never.json", *small, "--style-distance", "0", "--baseline-steps", "3", "--schedule", "constant"
    )
    assert [(row["steps"], row["ended"], row["reached"]) for row in result["rows"]] == [
        (2, "steps", False),
        (3, "steps", False),
        (3, "steps", False),
    ]
    assert [point["steps"] for point in result["rows"][1]["curve"]] == [1, 2, 3]
    assert all(row["ratio"] is None and row["ratio_at_least"] is None for row in result["rows"][1:])
    assert len(SCRIPT["table"](result).splitlines()) == 5


class FakeWorker:
    """A side whose pictures never change."""

    def __init__(self, **measures: float) -> None:
        self.measures = measures

    def seconds(self, count: int) -> float:
        return float(count)

    def report(self) -> dict[str, float]:
        return self.measures


@pytest.mark.parametrize(
    ("name", "missed"), [("style_distance", 0.11), ("coverage", 0.84), ("lpips", 0.59), ("ssim", 0.4)]
)
def test_all_that_the_target_names_has_to_be_reached(name: str, missed: float) -> None:
    target = {"style_distance": 0.1, "coverage": 0.85, "lpips": 0.58, "ssim": 0.45}
    for measures, reached in ((target, True), ({**target, name: missed}, False)):
        row = {"provider": "fastgan", "steps": 0, "train_seconds": 0.0, "of_steps": 9, "ended": None, "curve": []}
        SCRIPT["_turn"](FakeWorker(**measures), row, 2, target, over=False)
        assert row["reached"] is reached and row["ended"] == ("reached" if reached else None)
        assert row["curve"] == [{"steps": 2, "train_seconds": 2.0, **measures}]


def test_eager_takes_the_step_of_fastgan() -> None:
    """Network and losses of the default recipe: one step from the same weights gives the same numbers."""
    options = {**_TINY, "content": "demo", "style": "demo", "baseline_steps": 2}
    config = time_to_quality.config_of("eager", options)
    style = np.array(enlarge_to(read_image(demo_style(), reduce_to=64), 64))[:64, :64]
    theirs = step_setup.baseline_step_from_config(config, style, torch.device("cpu"), torch.float32)
    trainer = Trainer(config, data=())
    trainer.task.styles = Styles([style], VGGEncoder(STYLE_LAYERS, "random"), 64)  # type: ignore[attr-defined]
    pixels = step_setup.pictures(1, 64, 0)
    ours, theirs_values = trainer.train_step(pixels), theirs(pixels)
    for name in ("loss/g", "loss/content", "loss/style", "train/ssim"):
        assert ours[name] == pytest.approx(theirs_values[name].item(), rel=1e-4), name


@pytest.mark.parametrize(
    "options", [["--content", "nowhere"], ["--every", "0"], ["--size", "31"], ["--json", "no/such/folder.json"]]
)
def test_bad_input_is_told_in_one_line(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert MAIN(["run", "--json", str(tmp_path / "x.json"), *TINY, *options]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and (options[1] in told or "size" in told)
