"""The models beside ``fast``, from the command line: train, resume, use, measure, refuse."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.bounds import approx
from helpers.command_line import Command
from helpers.tiny_runs import MEASURES, MEASURES_OF_ONE, picture, read_lines, save_picture
from PIL import Image

import fastgan.data as fastgan_data
from fastgan.cli import main
from fastgan.config import load_config
from fastgan.errors import InputError

OPTIONS: dict[str, list[object]] = {
    "dcgan": [f"--set={field}" for field in ("data.short_side=34", "optim.generator.lr=0.05")],
    "fusion": ["--set", "model.generator.layer=relu2_1"],
    "article": [],
}
MODELS = list(OPTIONS)


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Fewer images from noise are measured, and nothing is plotted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastgan.evaluation.evaluator.NUM_EVAL_IMAGES", 16)
        patch.setattr("fastgan.training.tasks.generate.NUM_EVAL_IMAGES", 16)
        patch.setattr("fastgan.training.tasks.generate._NUM_QUICK_EVAL_IMAGES", 8)
        patch.setattr("fastgan.evaluation.report._write_plots", lambda *_: [], raising=False)
        yield


@pytest.fixture(scope="module")
def styles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two styles, one red, one blue."""
    folder = tmp_path_factory.mktemp("two")
    for channel, name in ((2, "blue"), (0, "red")):
        pixels = picture(44, 40, channel) // 4
        pixels[..., channel] = 200 + pixels[..., channel] // 2
        save_picture(pixels, folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, photos: Path, styles: Path, settings: Path) -> dict[str, Path]:
    """A run folder of each model, and of fast."""
    folder = tmp_path_factory.mktemp("models")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    made = {}
    try:
        for name in ("fast", *MODELS):
            style = [] if name == "dcgan" else ["--style", styles]
            made[name] = folder / name
            given = ["train", "--model", name, "--content", photos, *style, "--config", settings, "--out", made[name]]
            assert main([str(word) for word in (*given, *OPTIONS.get(name, []))]) == 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return made


def images(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.iterdir())}


def difference(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other).max())


@pytest.mark.parametrize("name", MODELS)
def test_train(runs: dict[str, Path], name: str) -> None:
    run = runs[name]
    config = load_config(run / "config.yaml")
    report = json.loads((run / "report.json").read_text())
    assert config.model.name == report["model"] == name and report["complete"] and report["alarms"] == []
    assert [line["step"] for line in read_lines(run)] == [1, 2, 3, 4]
    assert (run / "report.html").is_file() and (run / "samples" / "final.png").is_file()
    assert json.loads((run / "model" / "config.json").read_text())["model"] == name
    measures = {"kid_vgg", "diversity", "style_distance"}
    if name != "dcgan":
        measures = MEASURES if report["result"]["n"] > 1 else MEASURES_OF_ONE
        assert len(list((run / "model" / "styles").iterdir())) == 2
    assert set(report["result"]) == set(report["baseline"]) == {"n", *measures}
    extra = {"dcgan": {"-interpolation"}, "fusion": {"-strength", "-coverage"}}.get(name, {"-coverage"})
    assert {path.stem.removeprefix("final") for path in (run / "samples").glob("final-*")} == extra


@pytest.mark.parametrize("name", MODELS)
def test_resume(fastgan: Command, runs: dict[str, Path], tmp_path: Path, name: str) -> None:
    """Nothing but the folder is named: the model's recipe comes from its own config.yaml."""
    out = shutil.copytree(runs[name], tmp_path / "run")
    before = load_config(out / "config.yaml")
    done = fastgan("train", "--out", out, "--resume", "--steps", 6)
    assert done.code == 0 and "resumed at step 4" in done.err
    assert [line["step"] for line in read_lines(out)] == [1, 2, 3, 4, 5, 6]
    after = load_config(out / "config.yaml")
    assert after.train.steps == 6 and after.model == before.model and after.data == before.data
    assert json.loads((out / "report.json").read_text())["complete"]


# --- generate


def test_generate(fastgan: Command, runs: dict[str, Path], tmp_path: Path) -> None:
    done = fastgan("generate", runs["dcgan"], "--out", tmp_path / "a", "--count", 3, "--seed", 5)
    assert done.code == 0 and done.out == f"3 images in {tmp_path / 'a'}\n"
    made = images(tmp_path / "a")
    assert list(made) == ["000000.png", "000001.png", "000002.png"]
    assert all(image.shape == (32, 32, 3) and image.dtype == np.uint8 for image in made.values())
    assert difference(made["000000.png"], made["000001.png"]) > 1  # more than another rounding
    (tmp_path / "b").mkdir()  # an empty folder is as good as none
    assert fastgan("generate", runs["dcgan"] / "model", "--out", tmp_path / "b", "--count", 3, "--seed", 5).code == 0
    again = images(tmp_path / "b")
    assert len(again) == 3 and all(np.array_equal(image, again[name]) for name, image in made.items())
    assert fastgan("generate", runs["dcgan"], "--out", tmp_path / "d", "--count", 5, "--seed", 5).code == 0
    more = images(tmp_path / "d")  # the same noise first; sums of another batch may round a level otherwise
    assert len(more) == 5 and all(difference(image, more[name]) <= 1 for name, image in made.items())
    assert fastgan("generate", runs["dcgan"], "--out", tmp_path / "c", "--seed", 6).code == 0
    other = images(tmp_path / "c")
    assert len(other) == 16 and difference(other["000000.png"], made["000000.png"]) > 1


@pytest.mark.parametrize("ends", ["signal", "full disk"])
def test_generate_says_what_is_done(
    fastgan: Command, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    write = fastgan_data.write_image

    def stop(image: np.ndarray, path: Path) -> None:
        if path.name == "000002.png" and ends == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        elif path.name == "000002.png":
            raise InputError(f"{path}: cannot be written (No space left on device)")
        write(image, path)

    monkeypatch.setattr("fastgan.data.write_image", stop)
    done = fastgan("generate", runs["dcgan"], "--out", tmp_path / "out", "--count", 3)
    assert done.code == (143 if ends == "signal" else 1) and len(list((tmp_path / "out").iterdir())) == 2
    assert done.err.endswith(f"; 2 of 3 images are in {tmp_path / 'out'}\n") and done.err.count("\n") == 1


def test_generate_refused(fastgan: Command, runs: dict[str, Path], tmp_path: Path) -> None:
    kept = save_picture(picture(20, 20, 1), tmp_path / "full" / "000000.png").read_bytes()
    file = tmp_path / "file"
    file.write_text("mine")
    for out in (tmp_path / "full", file):
        assert fastgan("generate", runs["dcgan"], "--out", out).complaint.startswith(
            f"fastgan: --out {out}: already exists"
        )
    assert (tmp_path / "full" / "000000.png").read_bytes() == kept and file.read_text() == "mine"
    for name in ("fast", "fusion", "article"):
        said = fastgan("generate", runs[name], "--out", tmp_path / "new").complaint
        assert said.startswith(f"fastgan: {runs[name]}: ") and f"fastgan stylize {runs[name]}" in said
    assert "no such file" in fastgan("generate", tmp_path / "none", "--out", tmp_path / "new").complaint
    assert fastgan("generate", runs["dcgan"], "--out", tmp_path / "new", "--count", 0).code == 2
    assert not (tmp_path / "new").exists()


# --- stylize


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_picture(picture(37, 50, 21), tmp_path_factory.mktemp("one") / "photo.png")


def test_stylize_in_any_style(
    fastgan: Command, runs: dict[str, Path], styles: Path, photo: Path, tmp_path: Path
) -> None:
    made = {}
    cases: dict[str, list[object]] = {
        "own": [],
        "blue": ["--style", styles / "blue.png"],
        "red": ["--style", styles / "red.png"],
        "half": ["--style", styles / "red.png", "--strength", 0.5],
        "none": ["--style", styles / "red.png", "--strength", 0],
        "none of blue": ["--style", styles / "blue.png", "--strength", 0],
    }
    for name, options in cases.items():
        done = fastgan("stylize", runs["fusion"], photo, "--out", tmp_path / name, *options)
        assert done.code == 0, done
        made[name] = images(tmp_path / name)["photo.png"].astype(int)
        assert made[name].shape == (37, 50, 3)
    assert np.array_equal(made["own"], made["blue"])  # the first that it was trained on
    assert np.array_equal(made["none"], made["none of blue"])
    assert not np.array_equal(made["red"], made["blue"]) and not np.array_equal(made["half"], made["red"])
    assert np.abs(made["none"] - made["half"]).mean() < np.abs(made["none"] - made["red"]).mean()


@pytest.mark.parametrize("name", ["fast", "article"])
def test_a_model_of_one_style_takes_no_other(
    fastgan: Command, runs: dict[str, Path], styles: Path, photo: Path, tmp_path: Path, name: str
) -> None:
    style = styles / "red.png"
    said = fastgan("stylize", runs[name], photo, "--out", tmp_path / "out", "--style", style).complaint
    assert said.startswith(f"fastgan: --style {style}: ") and "--model fusion" in said
    assert not (tmp_path / "out").exists()
    assert fastgan("stylize", runs[name], photo, "--out", tmp_path / "out").code == 0
    assert images(tmp_path / "out")["photo.png"].shape == (37, 50, 3)


def test_stylize_refused(fastgan: Command, runs: dict[str, Path], photo: Path, tmp_path: Path) -> None:
    said = fastgan("stylize", runs["dcgan"], photo, "--out", tmp_path / "out").complaint
    assert said.startswith(f"fastgan: {runs['dcgan']}: ") and f"fastgan generate {runs['dcgan']}" in said
    for style in (tmp_path / "none.png", tmp_path):
        said = fastgan("stylize", runs["fusion"], photo, "--out", tmp_path / "out", "--style", style).complaint
        assert str(style) in said
    assert not (tmp_path / "out").exists()


# --- evaluate


def test_evaluate_noise(fastgan: Command, runs: dict[str, Path], photos: Path, styles: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    done = fastgan("evaluate", runs["dcgan"], "--content", photos, "--json", file)
    assert done.code == 0, done
    result = json.loads(file.read_text())
    assert set(result) == {"n", "kid_vgg", "diversity", "style_distance"}
    assert result["n"] == len(result["kid_vgg"]["values"]) == 4
    for title in ("KID (VGG-19)", "diversity", "style distance"):
        assert title in done.out
    assert f"{result['diversity']['mean']:.4f}" in done.out
    assert fastgan("evaluate", runs["dcgan"], "--content", photos, "--json", tmp_path / "n.json").code == 0
    assert file.read_text() == (tmp_path / "n.json").read_text()
    said = fastgan("evaluate", runs["dcgan"], "--content", photos, "--style", styles).complaint
    assert said.startswith(f"fastgan: --style {styles}: ") and "leave it out" in said


def test_evaluate_in_every_style(
    fastgan: Command, runs: dict[str, Path], photos: Path, styles: Path, tmp_path: Path
) -> None:
    """Photograph i in style i mod n: what one style alone gives, photograph by photograph in turn."""
    values = {}
    for name, options in {
        "all": [],
        "blue": ["--style", styles / "blue.png"],
        "red": ["--style", styles / "red.png"],
    }.items():
        file = tmp_path / f"{name}.json"
        given = ["evaluate", runs["fusion"], "--content", photos, "--precision", "fp32", "--json", file]
        assert fastgan(*given, *options).code == 0
        result = json.loads(file.read_text())
        assert set(result) == {"n", *MEASURES} and result["n"] == 8
        values[name] = result
    for measure in ("style_distance", "ssim"):
        each = [values[name][measure]["values"] for name in ("blue", "red")]
        turns = [each[number % 2][number] for number in range(8)]
        # Features of ten layers, of 512 * 9 products at most, in both.
        assert values["all"][measure]["values"] == approx(turns, terms=512 * 9, steps=2 * 10)
        assert turns != pytest.approx(each[0], rel=1e-3) and turns != pytest.approx(each[1], rel=1e-3)


# --- train, refused


@pytest.mark.parametrize(
    ("options", "said", "works"),
    [
        (["--model", "dcgan", "--style", "STYLE"], "--style: data.style:", "leave it out"),
        (["--model", "dcgan", "--target-ssim", 0.5], "--target-ssim: quality.target_ssim:", "--model fast"),
        (["--model", "dcgan", "--target-psnr", 20], "--target-psnr: quality.target_psnr:", "--model fast"),
        (["--fusion", "adain"], "--fusion: model.fusion:", "use --model fusion"),
        (["--model", "dcgan", "--fusion", "mlp"], "--fusion: model.fusion:", "use --model fusion"),
        (["--model", "dcgan", "--size", 60], "", "32, 64, 128"),
        (["--model", "article", "--size", 50], "", "multiple of 4"),
        (["--model", "fusion", "--batch", 1], "--batch: data.batch:", "--batch 2"),
        (
            ["--model", "fusion", "--fusion", "concat"],
            "--fusion: model.fusion:",
            "'adain', 'convex', 'additive', 'mlp' or 'wct'",
        ),
        (
            ["--model", "cyclegan"],
            "--model: model.name:",
            "one of fast, article, dcgan, fusion, got 'cyclegan'",
        ),
        (["--set", "loss.kind=wgan"], "--set loss.kind=wgan: loss.kind:", "clip_weights=0.01"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else None,
)
def test_train_refused(
    fastgan: Command,
    photos: Path,
    style_file: Path,
    settings: Path,
    tmp_path: Path,
    options: list[object],
    said: str,
    works: str,
) -> None:
    """One line, exit 2, and nothing is left behind."""
    out = tmp_path / "run"
    given = [style_file if option == "STYLE" else option for option in options]
    line = fastgan("train", "--content", photos, "--config", settings, *given, "--out", out).complaint
    assert line.startswith(f"fastgan: {said}") and works in line
    if "--size" in options:
        assert f"size {options[-1]}" in line
    assert not out.exists()
