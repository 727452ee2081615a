"""Time to a named quality: a target reached at once, one never reached, and bad input."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "time_to_quality.py"))
MAIN: Callable[[list[str]], int] = SCRIPT["main"]
_TINY = {"features": "random", "device": "cpu", "size": 64, "batch": 1, "every": 1, "photographs": 1, "steps": 2}
TINY = [text for name, value in _TINY.items() for text in (f"--{name}", str(value))]


def run(file: Path, *options: str) -> dict[str, Any]:
    assert MAIN(["run", "--json", str(file), *TINY, *options]) == 0
    return json.loads(file.read_text())


def test_reached_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "reached.json"
    result = run(file, "--style-distance", "1e9", "--ssim", "-1")
    assert result["header"]["target"] == {"style_distance": 1e9, "ssim": -1.0}
    ours, theirs = result["rows"]
    for row, name in ((ours, "fastgan"), (theirs, "eager")):
        assert row["provider"] == name and row["reached"] and row["ended"] == "reached" and row["steps"] == 1
        assert row["curve"] == [[1, row["train_seconds"], row["style_distance"], row["ssim"]]]
    assert result["ratio"] == theirs["train_seconds"] / ours["train_seconds"] and result["ratio_at_least"] is None
    shown = capsys.readouterr().out
    assert MAIN(["table", str(file)]) == 0 and shown.endswith(capsys.readouterr().out)


def test_never_reached(tmp_path: Path) -> None:
    result = run(tmp_path / "never.json", "--style-distance", "0", "--baseline-steps", "3", "--schedule", "constant")
    assert [(row["steps"], row["ended"], row["reached"]) for row in result["rows"]] == [
        (2, "steps", False),
        (3, "steps", False),
    ]
    assert [point[0] for point in result["rows"][1]["curve"]] == [1, 2, 3]
    assert result["ratio"] is None and result["ratio_at_least"] is None
    assert len(SCRIPT["table"](result).splitlines()) == 4


@pytest.mark.parametrize(
    "options", [["--content", "nowhere"], ["--every", "0"], ["--size", "31"], ["--json", "no/such/folder.json"]]
)
def test_bad_input_is_told_in_one_line(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert MAIN(["run", "--json", str(tmp_path / "x.json"), *TINY, *options]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and (options[1] in told or "size" in told)
