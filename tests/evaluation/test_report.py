"""The run folder at the end: everything of the contract, and what the report says."""

import base64
import importlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.bounds import approx
from helpers.quality_bounds import ssim_error
from helpers.tiny_runs import MEASURES_OF_ONE, Recorder, read_lines, save_picture
from PIL import Image

import fastgan
from fastgan.config import Config, load_config
from fastgan.evaluation.metrics_log import read_metrics
from fastgan.inference import Stylizer
from fastgan.training import Trainer

Make = Callable[..., Config]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, photos: Path, style_file: Path) -> Path:
    from helpers.tiny_runs import TINY

    fields = {
        **TINY,
        "data.content": str(photos),
        "data.style": str(style_file),
        "train.steps": 6,
        "log.tensorboard": True,
        "log.samples_every": 3,
        "quality.target_ssim": 0.5,
    }
    path = tmp_path_factory.mktemp("report") / "run"
    Trainer(load_config(overrides=[("t", name, value) for name, value in fields.items()]), out=path).fit()
    return path


def test_the_folder_holds_what_the_contract_says(run: Path) -> None:
    files = {"config.yaml", "metrics.jsonl", "report.json", "report.html"}
    assert files <= {path.name for path in run.iterdir() if path.is_file()}
    assert {"generator.safetensors", "config.json"} <= {path.name for path in (run / "model").iterdir()}
    samples = {path.name for path in (run / "samples").iterdir()}
    assert samples == {"final.png", "final-coverage.png", "step-000003.png", "step-000006.png"}
    assert list((run / "checkpoints").iterdir()) and list((run / "tb").glob("events.*"))
    assert not [path for path in run.rglob("*") if "tmp" in path.name]
    config = load_config(run / "config.yaml")
    assert config.train.steps == 6 and config.quality.target_ssim == 0.5
    assert all("controller/structure_weight" in line for line in read_lines(run))


def test_samples_show_content_style_and_result_side_by_side(run: Path) -> None:
    sheet = np.asarray(Image.open(run / "samples" / "final.png"))
    model = fastgan.load(run, device="cpu", precision="fp32")
    assert isinstance(model, Stylizer)
    held = json.loads((run / "report.json").read_text())["content"]["val_images"]
    assert len(held) == 1 and sheet.ndim == 3
    # One photograph of 40 x 48 px shown at a short side of 256, as are the style of 44 x 40 and the result.
    content_width, style_width = round(256 * 48 / 40), 256
    assert sheet.shape[1] == 2 * content_width + style_width + 2 * 8
    content = sheet[:256, :content_width].astype(float)
    result = sheet[:256, -content_width:].astype(float)
    photos = Path(load_config(run / "config.yaml").data.content)
    (source,) = [path for path in photos.rglob("*") if path.name == held[0]]
    small = np.asarray(Image.open(source).convert("RGB"))
    shown = [np.asarray(Image.fromarray(i).resize((content_width, 256))).astype(float) for i in (small, model(small))]
    apart = np.abs(content - shown[1]).mean()
    assert max(np.abs(content - shown[0]).mean(), np.abs(result - shown[1]).mean()) < 0.25 * apart  # by another filter


def test_report_json(run: Path) -> None:
    report = json.loads((run / "report.json").read_text())
    assert report["complete"] and report["steps"] == 6 and report["batch"] == 2 and report["size"] == 32
    assert report["target"] == {"ssim": 0.5} and report["rollbacks"] == 0 and report["seconds"] > 0
    assert report["model"] == "fast" and report["alarms"] == []
    assert report["content"]["train"] == 7 and not report["content"]["val_is_trained_on"]
    photos = Path(load_config(run / "config.yaml").data.content)
    (source,) = [path for path in photos.rglob("*") if path.name == report["content"]["val_images"][0]]
    unit = torch.from_numpy(np.array(Image.open(source).convert("RGB"))).permute(2, 0, 1)[None] / 255
    assert report["baseline"]["ssim"]["mean"] == pytest.approx(1, abs=ssim_error(unit, unit))
    assert report["baseline"]["psnr"]["mean"] is None
    assert report["result"]["n"] == 1 and 0 < report["result"]["ssim"]["mean"] < 1
    assert report["structure_weight"] > 0 and report["dtype"] == "float32" and report["img_per_s"] > 0


def test_report_html_stands_alone(run: Path) -> None:
    page = (run / "report.html").read_text()
    report = json.loads((run / "report.json").read_text())
    pictures = re.findall(r"src='data:image/png;base64,([^']+)'", page)
    assert len(pictures) >= 1 + 4 + 1 and all(base64.b64decode(data)[:4] == b"\x89PNG" for data in pictures)
    final = (run / "samples" / "final.png").read_bytes()
    assert final in [base64.b64decode(data) for data in pictures]
    assert not re.findall(r"(?:src|href)=['\"](?:https?:)?//", page)  # nothing from elsewhere
    assert f"{report['result']['ssim']['mean']:.3f}" in page and "photograph itself: ∞" in page
    assert "$" not in re.sub(r"base64,[^']+", "", page)  # no place of the template left open
    assert {path.name for path in (run / "plots").iterdir()} >= {"quality.png", "generator.png", "adversarial.png"}


def test_tensorboard_has_the_curves(run: Path) -> None:
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(run / "tb"))
    events.Reload()
    lines = read_lines(run)
    for name in ("loss/g", "loss/d", "train/ssim", "controller/structure_weight"):
        points = events.Scalars(name)
        assert [point.step for point in points] == [1, 2, 3, 4, 5, 6]
        assert [point.value for point in points] == approx([line[name] for line in lines])  # kept in float32
    assert {f"val/{name}" for name in MEASURES_OF_ONE - {"content_distance"}} <= set(events.Tags()["scalars"])
    assert events.Tags()["images"] == ["samples", "samples-coverage"]


def test_a_stopped_run_is_not_reported_as_measured(tiny: Make, tmp_path: Path) -> None:
    trainer = Trainer(tiny({"train.steps": 40}), out=tmp_path / "run")

    class Stop(Recorder):
        def close(self) -> None:
            pass

        def __getattribute__(self, name: str) -> object:
            if name == "on_step":
                return lambda trainer, event: trainer.request_stop()
            return super().__getattribute__(name)

    trainer.callbacks.append(Stop())
    trainer.fit()
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["complete"] is False and report["result"] is None and report["steps"] == 1
    page = (tmp_path / "run" / "report.html").read_text()
    assert "it can be resumed" in page
    tiles = re.findall(r"<div class='tile'><b>([^<]*)</b>", page)
    assert len(tiles) == len(MEASURES_OF_ONE) and "∞" not in tiles and not any(re.match(r"\d", tile) for tile in tiles)


def test_without_an_adversarial_part(tiny: Make, tmp_path: Path) -> None:
    """Values that such a run does not have are null in its lines and in no plot."""
    run = tmp_path / "run"
    Trainer(tiny({"loss.adversarial": 0, "train.steps": 3}), out=run).fit()
    missing = {"loss/d", "loss/g_adversarial", "loss/total"}
    for line in read_lines(run):
        assert {name for name, value in line.items() if value is None} == missing
    assert "NaN" not in (run / "metrics.jsonl").read_text()
    plots = {path.name for path in (run / "plots").iterdir()}
    assert "generator.png" in plots and "adversarial.png" not in plots


def test_alarms_are_reported(tiny: Make, tmp_path: Path, no_plots: None, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Recorder()
    trainer = Trainer(tiny(), out=tmp_path / "run", callbacks=[watch])
    taken: list[tuple[float, float | None]] = []

    def update(spread: float, loss_d: float | None) -> str | None:
        taken.append((spread, loss_d))
        return "all <alike>" if len(taken) == 3 else None

    monkeypatch.setattr(trainer.state.alarm, "update", update)
    report = trainer.fit()
    assert report["alarms"] == [{"step": 3, "text": "all <alike>"}]
    assert "Step 3: all &lt;alike&gt;" in (tmp_path / "run" / "report.html").read_text()
    assert [event.text for event in watch.of("on_message")] == ["step 3: all <alike>"]
    lines = [event.metrics for event in watch.of("on_step")]
    assert taken == [(line["train/diversity"], line["loss/d"]) for line in lines]


def test_names_are_escaped(tiny: Make, tmp_path: Path, style_file: Path) -> None:
    folder = tmp_path / "<b>&photos"
    for number in range(5):
        save_picture(np.full((40, 40, 3), 40 * number, np.uint8), folder / f"<i>{number}.png")
    Trainer(tiny({"data.content": str(folder), "train.steps": 1}), out=tmp_path / "run").fit()
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<b>&photos" not in page and "<i>" not in page and "&lt;b&gt;&amp;photos" in page


def test_read_metrics_of_a_crash(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    assert read_metrics(file) == []
    file.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert read_metrics(file) == [{"step": 1}, {"step": 2}]
