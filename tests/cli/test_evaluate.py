"""``fastgan evaluate``: its file, against scikit-image."""

import importlib
import json
import os
import shutil
import signal
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.bounds import approx
from helpers.command_line import Command
from helpers.quality_bounds import psnr_error, ssim_error
from helpers.tiny_runs import MEASURES, MEASURES_OF_ONE, fingerprint, picture, save_picture
from helpers.waiting import open_pipe
from PIL import Image

import fastgan as package
import fastgan.data as fastgan_data
from fastgan.inference import Stylizer, model_files
from fastgan.inference.model_files import save_model
from fastgan.metrics import SSIM
from fastgan.models import FusionGenerator

#: Two measures of the same pictures: features of ten layers in each, of 512 * 9 products at most.
TWICE: dict[str, int] = {"terms": 512 * 9, "steps": 2 * 10}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        save_picture(picture(40, 40 + 8 * number, 50 + number), tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


def test_json(fastgan: Command, run: Path, folder: Path, tmp_path: Path) -> None:
    metrics = importlib.import_module("skimage.metrics")
    file, before = tmp_path / "result.json", fingerprint(run)
    done = fastgan("evaluate", run, "--content", folder, "--json", file, "--precision", "fp32")
    assert done.code == 0 and done.err == "" and fingerprint(run) == before
    result = json.loads(file.read_text())
    assert set(result) == {"n", *MEASURES} and result["n"] == 3
    model = package.load(run, device="cpu", precision="fp32")
    for index, path in enumerate(sorted(folder.iterdir())):
        photo = np.array(Image.open(path))
        made = model(photo)
        ssim = metrics.structural_similarity(
            photo / 255,
            made / 255,
            channel_axis=2,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        x, y = (torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255 for pixels in (photo, made))
        assert result["ssim"]["values"][index] == pytest.approx(ssim, rel=0, abs=ssim_error(x, y))
        psnr = metrics.peak_signal_noise_ratio(photo, made, data_range=255)
        assert result["psnr"]["values"][index] == pytest.approx(psnr, rel=0, abs=psnr_error(x))
    for name in MEASURES:
        values = result[name]["values"]
        assert len(values) == 3 and result[name]["mean"] == pytest.approx(np.mean(values))
        assert result[name]["std"] == pytest.approx(np.std(values))
        assert f"{result[name]['mean']:.4f}" in done.out


def test_it_agrees_with_the_report_of_the_run(fastgan: Command, run: Path, photos: Path, tmp_path: Path) -> None:
    """The photograph held out, measured again by the other command, with the style that lies in the run."""
    report = json.loads((run / "report.json").read_text())
    (held,) = [path for path in photos.rglob("*") if path.name == report["content"]["val_images"][0]]
    fastgan("evaluate", run, "--content", held, "--json", tmp_path / "r.json", "--precision", "fp32")
    result = json.loads((tmp_path / "r.json").read_text())
    assert set(result) == {"n", *MEASURES_OF_ONE} == set(report["result"])
    for name in MEASURES_OF_ONE:
        assert result[name]["mean"] == approx(report["result"][name]["mean"], **TWICE)


def test_another_style(fastgan: Command, run: Path, folder: Path, style_file: Path, tmp_path: Path) -> None:
    other = save_picture(np.full((40, 40, 3), 7, np.uint8), tmp_path / "flat.png")
    means = []
    given = ["evaluate", run, "--content", folder, "--precision", "fp32"]
    for number, options in enumerate(([], ["--style", style_file], ["--style", other])):
        file = tmp_path / f"{number}.json"
        assert fastgan(*given, "--json", file, *options).code == 0
        means.append(json.loads(file.read_text())["style_distance"]["mean"])
    assert means[0] == approx(means[1], **TWICE) and means[2] != pytest.approx(means[0], rel=0.1)


def test_broken_among_good(fastgan: Command, run: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "bad.png").write_text("no picture")
    done = fastgan("evaluate", run, "--content", folder, "--json", tmp_path / "r.json")
    assert done.code == 3 and json.loads((tmp_path / "r.json").read_text())["n"] == 3
    assert done.err.count("bad.png") == 1 and "1 image was skipped" in done.out


def test_an_unchanged_picture_has_infinite_psnr(
    fastgan: Command, run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastgan.models import FastGenerator

    monkeypatch.setattr(FastGenerator, "forward", lambda self, x: x)
    done = fastgan("evaluate", run, "--content", folder, "--json", tmp_path / "r.json")
    result = json.loads((tmp_path / "r.json").read_text())
    assert done.code == 0 and result["psnr"] == {"mean": None, "std": None, "values": [None] * 3}
    assert result["ssim"]["mean"] == approx(1, terms=11, steps=7) and "inf" in done.out


def test_whatever_one_photograph_raises(
    fastgan: Command, run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named, counted and passed over: in reading, in the model, and in measuring."""
    read = fastgan_data.read_for_features
    errors = {"0.png": MemoryError(), "2.png": ZeroDivisionError("whatever")}
    save_picture(picture(40, 64, 9), folder / "3.png")
    save_picture(picture(40, 72, 9), folder / "4.png")
    run_model, update = Stylizer.run, SSIM.update

    def fail_in_the_model(self: Stylizer, x: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        if x.shape[-1] == 64:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return run_model(self, x, *rest, **options)

    def fail_in_measuring(self: SSIM, x: torch.Tensor, y: torch.Tensor) -> None:
        if x.shape[-1] == 72:
            raise RuntimeError("no such kernel")
        update(self, x, y)

    monkeypatch.setattr(Stylizer, "run", fail_in_the_model)
    monkeypatch.setattr(SSIM, "update", fail_in_measuring)

    def fail(path: Path, **options: Any) -> np.ndarray:
        if path.name in errors:
            raise errors[path.name]
        return read(path, **options)

    monkeypatch.setattr("fastgan.data.read_for_features", fail)
    done = fastgan("evaluate", run, "--content", folder, "--json")
    assert done.code == 3 and json.loads(done.out)["n"] == 1
    lines = done.err.splitlines()
    reasons = ["0.png: not enough memory", "whatever", "3.png: not enough memory", "no such kernel"]
    assert len(lines) == 4 and all(reason in line for reason, line in zip(reasons, lines, strict=True))
    assert "2.png: " in lines[1] and "4.png: " in lines[3]
    errors["1.png"] = OSError(5, "Input/output error")
    assert "none of the 5 images" in fastgan("evaluate", run, "--content", folder).complaint


def test_json_on_standard_output_stands_alone(fastgan: Command, run: Path, folder: Path) -> None:
    for options in (["--json", "-"], ["--json"]):
        done = fastgan("evaluate", run, "--content", folder / "0.png", *options)
        assert done.code == 0 and json.loads(done.out)["n"] == 1


def test_json_that_cannot_be_written_takes_no_table_away(fastgan: Command, run: Path, folder: Path) -> None:
    done = fastgan("evaluate", run, "--content", folder / "0.png", "--json", "/dev/full")
    assert done.code == 1 and "style distance" in done.out
    assert done.err == "fastgan: /dev/full: cannot be written (No space left on device)\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_says_what_is_done(
    fastgan: Command, run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    read = fastgan_data.read_for_features

    def interrupted(path: Path, **options: Any) -> np.ndarray:
        if path.name == "2.png":
            os.kill(os.getpid(), number)
        return read(path, **options)

    monkeypatch.setattr("fastgan.data.read_for_features", interrupted)
    done = fastgan("evaluate", run, "--content", folder, "--json", tmp_path / "r.json")
    assert done.code == 128 + number and done.out == "" and not (tmp_path / "r.json").exists()
    assert done.err == "fastgan: interrupted; 2 of 3 photographs were measured, nothing is written\n"


def test_a_style_folder_is_read_as_in_training(fastgan: Command, run: Path, folder: Path, style_file: Path) -> None:
    styles = folder.parent / "styles"
    styles.mkdir()
    (styles / "good.png").write_bytes(style_file.read_bytes())
    command = ["evaluate", run, "--content", folder / "0.png", "--json", "-", "--precision", "fp32", "--style"]
    alone = json.loads(fastgan(*command, style_file).out)
    (styles / "bad.png").write_text("no picture")
    done = fastgan(*command, styles)
    assert done.code == 3 and "bad.png" in done.err
    assert json.loads(done.out)["style_distance"] == alone["style_distance"]


def test_the_word_demo_is_no_folder(
    fastgan: Command, run: Path, folder: Path, style_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stands in the working folder; ./demo is that."""
    monkeypatch.setattr("fastgan.data.demo.demo_val", lambda: [style_file])
    monkeypatch.setattr("fastgan.data.demo.demo_style", lambda: style_file)
    monkeypatch.chdir(tmp_path)
    folder.rename(tmp_path / "demo")
    counts = []
    for content in ("demo", "./demo"):
        done = fastgan("evaluate", run, "--content", content, "--style", "demo", "--json", "-")
        assert done.code == 0
        counts.append(json.loads(done.out)["n"])
    assert counts == [1, 3]


def test_refusals(fastgan: Command, run: Path, folder: Path, tmp_path: Path) -> None:
    command = ["evaluate", run, "--content", folder]
    bad = tmp_path / "bad.jpg"
    bad.write_text("no picture")
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "all_bad").mkdir()
    for number in range(2):
        (tmp_path / "all_bad" / f"{number}.png").write_text("no picture")
    cases = {
        "none": ["evaluate", tmp_path / "none", "--content", folder],
        "no trained model": ["evaluate", folder, "--content", folder],
        "such file": ["evaluate", run, "--content", tmp_path / "nowhere"],
        "holds no images": ["evaluate", run, "--content", empty],
        "bad.jpg": ["evaluate", run, "--content", bad],
        "all_bad": ["evaluate", run, "--content", tmp_path / "all_bad"],
        "precision fp8": [*command, "--precision", "fp8"],
        "fp16 needs a GPU": [*command, "--precision", "fp16"],
        "lost.jpg": [*command, "--style", tmp_path / "lost.jpg"],
        "missing.safetensors": [*command, "--features", tmp_path / "missing.safetensors"],
        "cannot be written": [*command, "--json", bad / "result.json"],
        "--content": ["evaluate", run],
    }
    before = fingerprint(tmp_path)
    for says, arguments in cases.items():
        assert says in fastgan(*arguments).complaint
    assert fingerprint(tmp_path) == before


def test_json_into_what_is_no_file(fastgan: Command, run: Path, folder: Path, tmp_path: Path) -> None:
    """A link stays and leads to the result; a pipe stays and its reader has it."""
    (tmp_path / "store").mkdir()
    (tmp_path / "link.json").symlink_to("store/real.json")
    arguments = ["evaluate", run, "--content", folder / "0.png", "--precision", "fp32", "--json"]
    assert fastgan(*arguments, tmp_path / "link.json").code == 0
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "store" / "real.json").read_text())["n"] == 1
    with open_pipe(tmp_path / "pipe") as read_now:
        assert fastgan(*arguments, tmp_path / "pipe").code == 0
        assert json.loads(read_now())["n"] == 1 and stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_thousands_of_styles(
    fastgan: Command, run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a model of one style are counted before any is read; of one for any, those in turn are read alone."""
    model = shutil.copytree(run / "model", tmp_path / "model")
    for number in range(1, 1001):
        (model / "styles" / f"{number:03d}.png").symlink_to("000.png")
    refused = fastgan("evaluate", model, "--content", folder).complaint
    assert refused.startswith(f"fastgan: {model / 'styles'}: holds 1,001 styles") and "--style" in refused
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_model(model, FusionGenerator(2, 1, layer="relu2_1"), {"features": "random"})
    read: list[Path] = []
    true_read = model_files._read_style
    monkeypatch.setattr(model_files, "_read_style", lambda path: (read.append(path), true_read(path))[1])
    assert fastgan("evaluate", model, "--content", folder).code == 0
    assert {path.name for path in read} == {"000.png", "001.png", "002.png"}
