"""``fastgan train``: the whole path, options, resuming, signals."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import yaml
from helpers.command_line import Command, started
from helpers.tiny_runs import METRICS, fingerprint, picture, read_lines, save_picture, untimed
from helpers.waiting import HANG, wait_until

from fastgan.config import Config, load_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def given(photos: Path, style_file: Path, settings: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The arguments of a tiny run but for --out; its report without plots."""
    monkeypatch.setattr("fastgan.evaluation.report._write_plots", lambda *_: [], raising=False)
    return ["train", "--content", photos, "--style", style_file, "--config", settings]


def test_run_folder(run: Path) -> None:
    assert {path.name for path in run.iterdir()} >= {
        "config.yaml",
        "metrics.jsonl",
        "model",
        "checkpoints",
        "samples",
        "report.json",
        "report.html",
    }
    lines = read_lines(run)
    assert [line["step"] for line in lines] == [1, 2, 3, 4] and all(set(line) >= METRICS for line in lines)
    config = load_config(run / "config.yaml")
    assert config.train.steps == 4 and config.model.generator.width == 4
    assert not (run / "tb").exists()


def test_what_it_prints(fastgan: Command, given: list[object], tmp_path: Path) -> None:
    done = fastgan(*given, "--out", tmp_path / "run", "--target-ssim", 0.5)
    assert done.code == 0 and done.out == ""
    assert "7 photographs, 1 held out" in done.err and "2 x 32 px, float32 on cpu" in done.err
    assert "img/s" in done.err and "SSIM" in done.err and "4 steps in" in done.err
    assert str(tmp_path / "run" / "report.html") in done.err and f"fastgan stylize {tmp_path / 'run'}" in done.err
    assert "1 photographs not trained on" in done.err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert f"{report['result']['style_distance']['mean']:.3f}" in done.err


def test_set_beats_options_beat_config_beats_defaults(fastgan: Command, given: list[object], tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    fields = yaml.safe_load(Path(str(given[-1])).read_text())
    fields["data"] = {**fields["data"], "batch": 3, "val_images": 3}
    fields["train"]["steps"] = 1
    fields["optim"] = {"generator": {"lr": 0.004}}
    config.write_text(yaml.safe_dump(fields))
    options = ["--batch", 1, "--seed", 5, "--set", "train.seed=6", "--set", "optim.discriminator.lr=1e-3"]
    assert fastgan(*given[:-1], config, "--out", tmp_path / "run", *options).code == 0
    made = load_config(tmp_path / "run" / "config.yaml")
    assert (made.data.batch, made.data.val_images, made.train.seed) == (1, 3, 6)
    assert made.optim.generator.lr == 0.004 and made.optim.discriminator.lr == 0.001
    assert made.optim.discriminator.beta1 == 0.5 and made.checkpoint.keep == 2  # defaults beside what was given


def test_an_option_replaces_its_alternatives(fastgan: Command, given: list[object], tmp_path: Path) -> None:
    """A length or a target of another kind, which the config file or the run that is resumed has."""
    out = tmp_path / "run"
    assert fastgan(*given, "--out", out, "--epochs", 0.5, "--target-ssim", 0.5).code == 0
    made = load_config(out / "config.yaml")
    assert (made.train.steps, made.train.epochs, made.quality.target_ssim) == (None, 0.5, 0.5)
    assert fastgan("train", "--out", out, "--resume", "--steps", 3, "--target-psnr", 15).code == 0
    made = load_config(out / "config.yaml")
    assert (made.train.steps, made.train.epochs) == (3, None) and len(read_lines(out)) == 3
    assert (made.quality.target_ssim, made.quality.target_psnr) == (None, 15)


def test_every_option_reaches_its_field(fastgan: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[Config, dict[str, object]]] = []

    class Stop(Exception):
        pass

    def trainer(config: Config, **options: object) -> None:
        seen.append((config, options))
        raise Stop

    monkeypatch.setattr("fastgan.training.Trainer", trainer)
    options = {
        "--content": ("data.content", "/photos"),
        "--style": ("data.style", "/style.jpg"),
        "--steps": ("train.steps", 7),
        "--size": ("data.size", 64),
        "--batch": ("data.batch", 3),
        "--seed": ("train.seed", 9),
        "--model": ("model.name", "fast"),
        "--task": ("task", "stylize"),
        "--features": ("model.features", "random"),
        "--target-psnr": ("quality.target_psnr", 21.5),
        "--precision": ("train.precision", "bf16"),
    }
    flags = [part for name, (_, value) in options.items() for part in (name, value)]
    with pytest.raises(Stop):
        fastgan("train", "--out", tmp_path / "x", "--compile", "--resume", *flags)
    config, given = seen[0]
    flat: dict[str, tuple[object, object]] = {}
    for field, value in options.values():
        found: object = config
        for part in field.split("."):
            found = getattr(found, part)
        flat[field] = (found, value)
    assert all(found == value for found, value in flat.values()), flat
    assert config.train.compile and given["out"] == tmp_path / "x" and given["resume"] is True
    for flag, field in (("--epochs", "epochs"), ("--minutes", "minutes")):
        with pytest.raises(Stop):
            fastgan("train", "--out", tmp_path / "x", flag, 1.5)
        assert getattr(seen[-1][0].train, field) == 1.5 and seen[-1][0].quality.target_psnr is None
    with pytest.raises(Stop):
        fastgan("train", "--out", tmp_path / "x", "--target-ssim", 0.6, "--no-compile")
    assert seen[-1][0].quality.target_ssim == 0.6 and not seen[-1][0].train.compile


def test_minutes(fastgan: Command, given: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short time ends, trains, measures and reports."""
    monkeypatch.setattr("fastgan.cli.train.STARTED", time.monotonic())
    assert fastgan(*given, "--out", tmp_path / "run", "--minutes", 0.05).code == 0
    lines = read_lines(tmp_path / "run")
    assert len(lines) >= 1 and [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    assert json.loads((tmp_path / "run" / "report.json").read_text())["complete"]


def test_an_existing_run_is_left_alone(fastgan: Command, given: list[object], run: Path) -> None:
    before = fingerprint(run)
    times = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert "already exists; add --resume" in fastgan(*given, "--out", run).complaint
    assert "already exists" in fastgan("train", "--out", run / "model").complaint
    assert fingerprint(run) == before and {path: path.stat().st_mtime_ns for path in run.rglob("*")} == times


def test_resume_needs_no_other_option(fastgan: Command, given: list[object], tmp_path: Path) -> None:
    """The run's own config.yaml is what it goes on with; options given now change it."""
    out = tmp_path / "run"
    assert fastgan(*given, "--out", out, "--steps", 2).code == 0
    done = fastgan("train", "--out", out, "--resume", "--steps", 5)
    assert done.code == 0 and "resumed at step 2" in done.err
    assert [line["step"] for line in read_lines(out)] == [1, 2, 3, 4, 5]
    assert load_config(out / "config.yaml").train.steps == 5
    assert json.loads((out / "report.json").read_text())["steps"] == 5


def test_resume_with_no_checkpoint_starts_afresh(fastgan: Command, given: list[object], tmp_path: Path) -> None:
    done = fastgan(*given, "--out", tmp_path / "run", "--resume")
    assert done.code == 0 and "resumed" not in done.err
    assert len(read_lines(tmp_path / "run")) == 4


def test_resume_what_is_no_run(fastgan: Command, given: list[object], tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    assert "not a run folder" in fastgan(*given, "--out", tmp_path, "--resume").complaint
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_broken_images_are_counted_named_once_and_skipped(
    fastgan: Command, given: list[object], tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    for number in range(6):
        save_picture(picture(40, 40, number), folder / f"{number}.png")
    (folder / "text.jpg").write_text("no picture")
    save_picture(picture(40, 40, 9), folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:500])
    given[2] = folder
    done = fastgan(*given, "--out", tmp_path / "run", "--steps", 12)
    assert done.code == 0 and len(read_lines(tmp_path / "run")) == 12
    for name in ("text.jpg", "cut.png"):
        assert done.err.count(str(folder / name)) == 1, done.err
    assert "2 broken images were skipped" in done.err
    broken = json.loads((tmp_path / "run" / "report.json").read_text())["content"]["broken"]
    assert sorted(Path(path).name for path in broken) == ["cut.png", "text.jpg"] and all(broken.values())


def test_names_that_are_no_text(fastgan: Command, given: list[object], tmp_path: Path) -> None:
    """Bytes of another encoding, as old archives have them, and what a terminal's markup would eat."""
    folder = tmp_path / "photos"
    for number, name in enumerate((b"caf\xe9.png", b"[bold]\xe9.png", b"a\nb\xe9.png", b"caf\xe8.png")):
        save_picture(picture(40, 40, number), folder / f"{number}.png")
        os.rename(folder / f"{number}.png", os.path.join(os.fsencode(folder), name))
    (folder / os.fsdecode(b"bad\xe9.jpg")).write_text("no picture")
    given[2] = folder
    done = fastgan(*given, "--out", tmp_path / "run", "--set", "data.val_images=4")
    assert done.code == 0 and (tmp_path / "run" / "report.html").is_file() and done.err.count("bad") == 1
    done = fastgan("stylize", tmp_path / "run", folder, "--out", tmp_path / "out")
    assert done.code == 3 and len(done.err.splitlines()) == 1
    made = sorted(os.listdir(os.fsencode(tmp_path / "out")))
    assert made == [b"[bold]\xe9.png", b"a\nb\xe9.png", b"caf\xe8.png", b"caf\xe9.png"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_and_is_the_exit_code(
    fastgan: Command, given: list[object], tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "run"
    log = out / "metrics.jsonl"
    with started([*given, "--out", out, "--steps", 10**9]) as process:
        wait_until(
            lambda: (log.is_file() and log.read_text().count("\n") >= 3) or process.poll() is not None, "3 steps"
        )
        process.send_signal(number)
        _, err = process.communicate(timeout=HANG)
    assert process.returncode == 128 + number, err
    assert "saved. Go on with fastgan train --out" in err and "Traceback" not in err
    steps = len(read_lines(out))
    assert (out / "checkpoints" / f"step-{steps:08d}.pt").is_file()
    assert json.loads((out / "report.json").read_text())["complete"] is False
    done = fastgan("train", "--out", out, "--resume", "--steps", steps + 2)
    assert done.code == 0 and f"resumed at step {steps}" in done.err
    assert [line["step"] for line in untimed(read_lines(out))] == list(range(1, steps + 3))
    assert json.loads((out / "report.json").read_text())["complete"] is True


def test_a_terminal_that_is_gone_ends_nothing(photos: Path, style_file: Path, settings: Path, tmp_path: Path) -> None:
    """Nothing can be printed any more: the run goes on, saves, and has the exit code of its end."""
    code = (
        "import os, sys; os.dup2(os.open('/dev/full', os.O_WRONLY), 2); "
        "from fastgan.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    out = tmp_path / "run"
    options = ["train", "--content", str(photos), "--style", str(style_file), "--config", str(settings)]
    command = [sys.executable, "-c", code, *options, "--out", str(out)]
    assert subprocess.run(command, timeout=HANG, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode == 0
    assert json.loads((out / "report.json").read_text())["complete"]


def test_no_temporary_folder_is_told_in_a_line(photos: Path, style_file: Path, settings: Path, tmp_path: Path) -> None:
    """As on a system that is mounted read-only and has none in memory: torch wants one before anything is written."""
    code = """
import sys, tempfile
def none():
    raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")
tempfile._get_default_tempdir, tempfile.tempdir = none, None
from fastgan.cli import main
sys.exit(main(sys.argv[1:]))
"""
    options = ["train", "--content", str(photos), "--style", str(style_file), "--config", str(settings)]
    command = [sys.executable, "-c", code, *options, "--out", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("TORCHINDUCTOR_CACHE_DIR", None)
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG, env=environment)
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    assert done.stderr == (
        "fastgan: No usable temporary directory found in ['/tmp']; set TMPDIR to a folder that can be written to\n"
    )


def test_a_full_disk_is_told_in_a_line_and_damages_nothing(given: list[object], tmp_path: Path) -> None:
    """Files may grow no larger than the log of a few steps: the system refuses the next line."""
    import resource

    out = tmp_path / "run"
    options = ["--steps", 200, "--set", "checkpoint.every=100000", "--set", "log.samples_every=100000"]
    limited = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (9000, 9000))
    # Python would cut the .pyc files that it writes for others to read.
    with started([*given, "--out", out, *options], limited, PYTHONDONTWRITEBYTECODE="1") as process:
        _, err = process.communicate(timeout=HANG)
    assert process.returncode == 1 and "Traceback" not in err, err
    last = err.splitlines()[-1]
    assert last.startswith("fastgan: ") and "cannot be written (File too large)" in last and "metrics.jsonl" in last
    assert len((out / "metrics.jsonl").read_bytes()) <= 9000 and not list(out.rglob("*.tmp"))


def test_divergence_is_told_in_a_line(
    fastgan: Command, given: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastgan.training.train_step import TrainStep

    call = TrainStep.__call__
    monkeypatch.setattr(TrainStep, "__call__", lambda *a: {**call(*a), "loss/g": float("nan")})
    done = fastgan(*given, "--out", tmp_path / "run")
    assert done.code == 1 and "Traceback" not in done.err
    assert done.err.splitlines()[-1].startswith("fastgan: a loss was not finite")
    assert done.err.count("back to step 0") == 3


def test_a_resumed_run_keeps_what_is_built_in(
    fastgan: Command, settings: Path, photos: Path, style_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders of the names of reserved words stand in the working folder: the run's own one among them."""
    monkeypatch.setattr("fastgan.evaluation.report._write_plots", lambda *_: [], raising=False)
    built_in = sorted(photos.rglob("*.png"))
    monkeypatch.setattr("fastgan.training.setup.demo_content", lambda: built_in[:3])
    monkeypatch.setattr("fastgan.training.setup.demo_val", lambda: built_in[3:4])
    monkeypatch.setattr("fastgan.data.demo.demo_style", lambda: style_file)
    monkeypatch.chdir(tmp_path)
    for name in ("vgg19", "random"):
        (tmp_path / name).mkdir()
    assert fastgan("train", "--config", settings, "--out", "demo", "--steps", 1).code == 0
    for steps in (2, 3):
        assert fastgan("train", "--out", "demo", "--resume", "--steps", steps).code == 0
    config = load_config(tmp_path / "demo" / "config.yaml")
    assert (config.data.content, config.data.style, config.model.features) == ("demo", "demo", "random")
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert report["content"]["source"] == "demo" and report["content"]["train"] == 3
    assert json.loads((tmp_path / "demo" / "model" / "config.json").read_text())["features"] == "random"


def test_resume_keeps_model_and_task(fastgan: Command, run: Path, tmp_path: Path) -> None:
    """By whatever they are asked for otherwise."""
    file = tmp_path / "c.yaml"
    file.write_text("model: {name: article}\n")
    before = fingerprint(run)
    for options, says in (
        (["--model", "article"], "--model article: the run in"),
        (["--fusion", "mlp"], "--fusion mlp: the run in"),
        (["--task", "generate"], "--task generate: the run in"),
        (["--init", "any-style"], "--init any-style: the run in"),
        (["--set", "task=generate"], "--set task=generate: the run in"),
        (["--set", "model.name=dcgan"], "--set model.name=dcgan: the run in"),
        (["--config", file], f"--config {file}: model.name article: the run in"),
    ):
        assert says in fastgan("train", "--out", run, "--resume", *options).complaint
    assert fingerprint(run) == before


def test_an_out_that_is_no_text(fastgan: Command, given: list[object], tmp_path: Path) -> None:
    """Bytes of another encoding, control codes, brackets and spaces: TensorBoard's files, and what is to be pasted."""
    out = tmp_path / os.fsdecode(b"run [/x]\x1b\n\xff")
    done = fastgan(*given, "--out", out, "--steps", 2, "--set", "log.tensorboard=true")
    assert done.code == 0, done.err
    assert list((out / "tb").glob("events.*")) and (out / "report.html").is_file()
    line = next(line for line in done.err.splitlines() if line.startswith("use it"))
    command = line.partition("fastgan")[2].replace("PHOTO.jpg", "")
    words = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True).stdout
    assert words.split(b"\0")[:2] == [b"stylize", os.fsencode(out)]
    assert all(line.isprintable() for line in done.err.splitlines())
    assert fastgan("train", "--out", out, "--resume", "--steps", 3).code == 0
