"""Bad input: one clear line that names it, exit code 2, and nothing made or changed."""

import errno
import json
import os
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from helpers.command_line import Command
from helpers.tiny_runs import fingerprint, picture, save_picture

from fastgan.errors import InputError
from fastgan.utils import registry


def huge_png() -> bytes:
    """A valid header of a 40,000 x 40,000 picture: 4.8 GB if anybody decoded it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with every kind of bad input; nothing in it may change."""
    save_picture(picture(40, 40, 0), tmp_path / "good.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    for folder in (tmp_path, tmp_path / "text"):
        (folder / "text.jpg").write_text("this is no picture")
    save_picture(picture(1, 1, 0), tmp_path / "pixel.png")
    save_picture(picture(1, 1, 0), tmp_path / "pixels" / "pixel.png")
    (tmp_path / "huge.png").write_bytes(huge_png())
    (tmp_path / "huges").mkdir()
    (tmp_path / "huges" / "huge.png").write_bytes(huge_png())
    (tmp_path / "type.yaml").write_text("data: {batch: many}\n")
    (tmp_path / "field.yaml").write_text("data: {bacth: 4}\n")
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "broken.yaml").write_text("data: {batch: [\n")
    (tmp_path / "picture.xyz").write_bytes((tmp_path / "good.png").read_bytes())
    (tmp_path / "weights.safetensors").write_text("no weights")
    return tmp_path


#: Options of ``train`` beside those of a good run (the last of two wins), and what the line must say.
TRAIN = {
    "missing folder": (["--content", "{p}/none"], ["{p}/none", "no such file or folder"]),
    "empty folder": (["--content", "{p}/empty"], ["{p}/empty", "holds no images", ".jpg"]),
    "text named jpg": (["--content", "{p}/text.jpg"], ["{p}/text.jpg", "not an image", "JPEG"]),
    "folder of text": (["--content", "{p}/text"], ["{p}/text/text.jpg", "1 of 1 images cannot be read"]),
    "one pixel": (["--content", "{p}/pixels"], ["{p}/pixels/pixel.png", "too small, 1 x 1 px", "at least 11 px"]),
    "huge": (
        ["--content", "{p}/huges"],
        ["{p}/huges/huge.png", "40000 x 40000 px", "FASTGAN_MEMORY_BUDGET"],
    ),
    "init missing": (["--init", "{p}/none"], ["{p}/none", "no such file or folder"]),
    "init of text": (["--init", "{p}/text"], ["{p}/text", "has no trained model"]),
    "init of another model": (
        ["--init", "any-style"],
        ["train.init any-style", "model fusion, and the run's has fast"],
    ),
    "variants of one style": (["--set", "data.style_variants=3"], ["--set data.style_variants=3", "one style"]),
    "style missing": (["--style", "{p}/none.jpg"], ["{p}/none.jpg", "no such file"]),
    "style of text": (["--style", "{p}/text.jpg"], ["{p}/text.jpg", "not an image"]),
    "style of a pixel": (["--style", "{p}/pixel.png"], ["{p}/pixel.png", "too small"]),
    "style huge": (["--style", "{p}/huge.png"], ["{p}/huge.png", "too large"]),
    "style folder empty": (["--style", "{p}/empty"], ["{p}/empty", "holds no images"]),
    "unknown option": (["--stile", "x"], ["--stile"]),
    "unknown model": (["--model", "fussion"], ["--model", "one of fast, ", "'fussion'"]),
    "unknown task": (["--task", "restyle"], ["--task restyle: must be one of ", "stylize"]),
    "option of a wrong type": (["--steps", "many"], ["--steps", "valid integer"]),
    "option out of range": (["--batch", "0"], ["--batch", "greater than or equal to 1"]),
    "set of a wrong type": (["--set", "data.batch=many"], ["--set data.batch=many", "integer"]),
    "set of an unknown field": (["--set", "data.bacth=4"], ["--set data.bacth=4", "no field data.bacth", "batch"]),
    "set without a value": (["--set", "data.batch"], ["--set data.batch", "key=value"]),
    "config of a wrong type": (["--config", "{p}/type.yaml"], ["{p}/type.yaml", "data.batch", "'many'"]),
    "config of an unknown field": (["--config", "{p}/field.yaml"], ["{p}/field.yaml", "data.bacth", "batch"]),
    "config of a list": (["--config", "{p}/list.yaml"], ["{p}/list.yaml", "mapping"]),
    "config that is no YAML": (["--config", "{p}/broken.yaml"], ["{p}/broken.yaml", "not valid YAML"]),
    "config missing": (["--config", "{p}/none.yaml"], ["{p}/none.yaml", "cannot read"]),
    "two lengths": (["--steps", "3", "--minutes", "1"], ["train", "one of steps, epochs and minutes"]),
    "two targets": (["--target-ssim", "0.5", "--target-psnr", "20"], ["quality", "one target"]),
    "target out of range": (["--target-ssim", "1.5"], ["--target-ssim", "less than 1"]),
    "precision": (["--precision", "fp8"], ["--precision", "'bf16'"]),
    "fp16 on a CPU": (["--precision", "fp16"], ["fp16 needs a GPU"]),
    "features missing": (["--features", "{p}/none.safetensors"], ["{p}/none.safetensors", "no such file"]),
    "features of text": (["--features", "{p}/weights.safetensors"], ["weights.safetensors", "not a safetensors file"]),
    "unknown layer": (["--set", "loss.content_layer=conv9"], ["conv9", "relu4_1"]),
    "out under a file": (["--out", "{p}/text.jpg/run"], ["--out {p}/text.jpg/run", "cannot be"]),
    "out is a file": (["--out", "{p}/text.jpg"], ["--out {p}/text.jpg", "is a file; give a folder"]),
    "out not writable": (["--out", "/proc/fastgan-run"], ["--out /proc/fastgan-run", "cannot be created"]),
    "out exists": (["--out", "{p}/text"], ["--out {p}/text", "already exists", "--resume"]),
    "too small a size": (["--size", "16"], ["--size", "greater than or equal to 32"]),
    "size for the discriminator": (["--set", "model.discriminator.depth=5"], ["data.size", "96"]),
}


@pytest.mark.parametrize("case", TRAIN)
def test_train(case: str, fastgan: Command, place: Path, photos: Path, style_file: Path, settings: Path) -> None:
    options, says = ([part.replace("{p}", str(place)) for part in parts] for parts in TRAIN[case])
    out = place / "run"
    before = fingerprint(place)
    given = ["--content", photos, "--style", style_file, "--out", out, "--config", settings]
    complaint = fastgan("train", *given, *options).complaint
    assert all(part in complaint for part in says), complaint
    assert fingerprint(place) == before and not Path("/proc/fastgan-run").exists()


def test_train_needs_an_out(fastgan: Command) -> None:
    assert "--out" in fastgan("train").complaint


STYLIZE = {
    "no such run": (["{p}/none", "{p}/good.png"], ["{p}/none", "no such file or folder"]),
    "no run": (["{p}/text", "{p}/good.png"], ["{p}/text", "has no trained model"]),
    "missing input": (["{run}", "{p}/none.png"], ["{p}/none.png", "no such file"]),
    "empty folder": (["{run}", "{p}/empty"], ["{p}/empty", "holds no images"]),
    "text": (["{run}", "{p}/text.jpg"], ["{p}/text.jpg", "not an image"]),
    "one pixel": (["{run}", "{p}/pixel.png"], ["{p}/pixel.png", "too small"]),
    "huge": (["{run}", "{p}/huge.png"], ["{p}/huge.png", "too large"]),
    "no picture's name": (["{run}", "{p}/picture.xyz"], ["{p}/picture.xyz", ".jpg"]),
    "no input": (["{run}"], ["INPUT", "is missing", "{run}"]),
    "no style for any-style": (["any-style", "{p}/good.png"], ["--style", "any-style", "give a painting"]),
    "neither model nor style": (["{p}/good.png"], ["--style", "any-style"]),
    "neither model nor input": (["{p}/none.png", "--style", "demo"], ["{p}/none.png", "no such file"]),
    "a folder of the model's name": (["./any-style", "{p}/good.png"], ["any-style", "no such file or folder"]),
    "strength": (["{run}", "{p}/good.png", "--strength", "2"], ["--strength", "less than or equal to 1"]),
    "strength that is no number": (["{run}", "{p}/good.png", "--strength", "nan"], ["--strength"]),
    "strength of text": (["{run}", "{p}/good.png", "--strength", "much"], ["--strength", "valid number"]),
    "tile": (["{run}", "{p}/good.png", "--tile", "20"], ["--tile 20", "at least"]),
    "precision": (["{run}", "{p}/good.png", "--precision", "fp8"], ["--precision fp8", "bf16"]),
    "fp16": (["{run}", "{p}/good.png", "--precision", "fp16"], ["fp16 needs a GPU"]),
    "device": (["{run}", "{p}/good.png", "--device", "tpu"], ["--device tpu", "cpu"]),
    "unknown option": (["{run}", "{p}/good.png", "--strenght", "1"], ["--strenght"]),
    "out under a file": (["{run}", "{p}/good.png", "--out", "{p}/text.jpg/x"], ["--out {p}/text.jpg/x"]),
    "out is a file": (["{run}", "{p}/good.png", "--out", "{p}/list.yaml"], ["--out {p}/list.yaml", "is a file"]),
    "out of another format": (
        ["{run}", "{p}/good.png", "--out", "{p}/x.HEIC"],
        ["x.HEIC", "a .HEIC cannot"],
    ),
    "a name for many": (["{run}", "{p}/good.png", "{p}/text.jpg", "--out", "{p}/x.jpg"], ["x.jpg", "one picture"]),
    "a name for a folder": (["{run}", "{p}/pixels", "--out", "{p}/x.jpg"], ["--out {p}/x.jpg", "one picture"]),
    "a name that is the input": (["{run}", "{p}/good.png", "--out", "{p}/good.png"], ["{p}/good.png", "replace"]),
    "out not writable": (["{run}", "{p}/good.png", "--out", "/proc/fastgan-out"], ["--out /proc/fastgan-out"]),
}


@pytest.mark.parametrize("case", STYLIZE)
def test_stylize(case: str, fastgan: Command, place: Path, run: Path) -> None:
    options, says = (
        [part.replace("{p}", str(place)).replace("{run}", str(run)) for part in parts] for parts in STYLIZE[case]
    )
    before, model = fingerprint(place), fingerprint(run)
    complaint = fastgan("stylize", "--out", place / "out", *options).complaint
    assert all(part in complaint for part in says), complaint
    assert fingerprint(place) == before and fingerprint(run) == model


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("data.style: the model fast needs a style; give data.style=FILE or demo", "give --style FILE or demo"),
        ("wgan: add loss.r1=1 or model.name=fast", "add --set loss.r1=1 or --model fast"),
        ("--set loss.r1=1: loss.r1: use another", "--set loss.r1=1: loss.r1: use another"),
        ("task: use train.precision=fp32 or task=restore", "use --precision fp32 or --task restore"),
        ("features vgg19: is missing", "--features vgg19: is missing"),
    ],
)
def test_settings_in_messages_become_options(
    fastgan: Command, monkeypatch: pytest.MonkeyPatch, message: str, shown: str
) -> None:
    def refuse(*_: object) -> None:
        raise InputError(message)

    monkeypatch.setattr("fastgan.cli.train.load_settings", refuse)
    assert fastgan("train", "--out", "none").complaint.endswith(shown)


def test_unknown_command(fastgan: Command) -> None:
    assert "bench2" in fastgan("bench2").complaint


def test_a_damaged_model(fastgan: Command, place: Path, run: Path) -> None:
    import shutil

    shutil.copytree(run / "model", place / "model")
    file = place / "model" / "generator.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    complaint = fastgan("stylize", place / "model", place / "good.png", "--out", place / "out").complaint
    assert str(file) in complaint and "damaged" in complaint and not (place / "out").exists()


def test_a_programming_error_is_not_swallowed(fastgan: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def gather() -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("fastgan.cli.info.gather", gather)
    with pytest.raises(ZeroDivisionError):
        fastgan("info")


def test_a_full_disk(fastgan: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def gather() -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "metrics.jsonl"))

    monkeypatch.setattr("fastgan.cli.info.gather", gather)
    complaint = fastgan("info").complaint
    assert str(tmp_path / "metrics.jsonl") in complaint and "No space left on device" in complaint


@pytest.mark.parametrize(("value", "command"), [("nothing", "info"), ("ssim:nothing", "info")])
def test_a_wrong_backend_in_the_environment(value: str, command: str) -> None:
    environment = {**os.environ, "FASTGAN_BACKEND": value}
    done = subprocess.run(
        [sys.executable, "-m", "fastgan", command], capture_output=True, text=True, env=environment, cwd="/"
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "FASTGAN_BACKEND" in done.stderr


def test_a_folder_is_not_trained_on_its_own_results(fastgan: Command, photos: Path, style_file: Path) -> None:
    out = photos / "run"
    complaint = fastgan("train", "--content", photos, "--style", style_file, "--out", out).complaint
    assert "--out" in complaint and "lies inside the photographs" in complaint and not out.exists()
    complaint = fastgan("stylize", photos, photos, "--out", out).complaint
    assert "lies inside the input" in complaint and not out.exists()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),  # as of a fork, or of a file that is mapped
    ],
    ids=["torch", "system"],
)
@pytest.mark.parametrize(("command", "advice"), [("evaluate", "not enough memory"), ("stylize", "give --tile")])
def test_out_of_memory_is_one_line(
    command: str, advice: str, error: Exception, fastgan: Command, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("fastgan.data.list_images", refuse)
    monkeypatch.setattr("fastgan.data.list_photographs", refuse)
    option = "--content" if command == "evaluate" else "--out"
    complaint = fastgan(command, photos, *([photos] if command == "stylize" else []), option, photos).complaint
    assert complaint.startswith("fastgan: not enough memory") and advice in complaint and "--count" not in complaint


@pytest.mark.parametrize("command", ["train", "stylize", "generate", "evaluate", "bench", "profile", "info"])
def test_control_codes_and_line_breaks_are_not_printed(command: str, fastgan: Command, tmp_path: Path) -> None:
    """In a complaint a name is one line of printable text, whichever command complains."""
    name = tmp_path / "new\nline\x1b[31m\udce9"
    arguments: dict[str, list[object]] = {
        "train": ["--out", tmp_path / "run", "--config", name],
        "stylize": [tmp_path, name, "--out", tmp_path / "out"],
        "generate": [name, "--out", tmp_path / "out"],
        "evaluate": [tmp_path, "--content", name],
        "bench": ["--compare", name],
        "profile": ["--out", tmp_path / "run", "--config", name],
        "info": ["--json", name / "x.json"],
    }
    complaint = fastgan(command, *arguments[command]).complaint
    assert r"new\nline\x1b[31m\udce9" in complaint and complaint.isprintable()


def test_a_command_that_is_hung_up_on_or_ended_says_so(fastgan: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):

        def gather(number: signal.Signals = number) -> None:
            os.kill(os.getpid(), number)
            signal.pause()

        monkeypatch.setattr("fastgan.cli.info.gather", gather)
        done = fastgan("info")
        assert (done.code, done.out, done.err) == (128 + number, "", "fastgan: interrupted\n")


@pytest.mark.parametrize(
    ("device", "code", "says"),
    [("/dev/full", 1, "fastgan: standard output: cannot be written (No space left on device)\n"), ("pipe", 141, "")],
)
def test_standard_output_that_takes_nothing(device: str, code: int, says: str) -> None:
    if device == "pipe":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open(device, os.O_WRONLY)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "fastgan", "--version"], stdout=writing, stderr=subprocess.PIPE, text=True, cwd="/"
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (code, says)


@pytest.fixture
def broken_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plugin:
        name, value = "broken", "no_such_module"

        def load(self) -> None:
            raise ModuleNotFoundError("No module named 'no_such_module'")

    monkeypatch.setattr(registry, "_loaded", False)
    monkeypatch.setattr(registry, "_failure", "")
    monkeypatch.setattr(registry, "entry_points", lambda group: [Plugin()])


@pytest.mark.usefixtures("broken_plugin")
def test_a_broken_plugin(fastgan: Command, tmp_path: Path) -> None:
    """It is told, and in the way of what needs it alone."""
    done = fastgan("--version")
    assert done.code == 0 and done.out.startswith("fastgan ") and done.err == ""
    for command in ("--help", "info"):
        done = fastgan(command)
        assert done.code == 0 and done.out and done.err.startswith("fastgan: the plugin broken (no_such_module) cannot")
    for arguments in (["of-the-plugin"], ["train", "--out", tmp_path / "run"]):
        assert "the plugin broken" in fastgan(*arguments).complaint
    assert "--stile" in fastgan("train", "--stile", "x").complaint


def test_json_without_a_file_is_standard_output(fastgan: Command) -> None:
    printed = [json.loads(fastgan("info", *options).out) for options in (["--json"], ["--json", "-"])]
    assert printed[0] == printed[1] and printed[0]["fastgan"]
