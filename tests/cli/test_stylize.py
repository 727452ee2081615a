"""``fastgan stylize``: names, sizes, folders, orientation, transparency, and what it refuses."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command_line import Command, Result
from helpers.picture_files import rgb_profile, save
from helpers.tiny_runs import fingerprint, picture, save_picture
from PIL import Image
from torch import Tensor

import fastgan as package
import fastgan.data as fastgan_data
from fastgan.errors import InputError
from fastgan.models import FastGenerator


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_same_names_same_sizes_same_places(fastgan: Command, run: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    sizes = {
        "a.png": (41, 33),
        "b.JPG": (17, 50),
        "deep/er/c.webp": (11, 12),
        "deep/a.png": (64, 64),
        "d.bmp": (30, 31),
    }
    for number, (name, size) in enumerate(sizes.items()):
        save_picture(picture(*size, number), folder / name)
    (folder / "notes.txt").write_text("not a picture")
    save_picture(picture(20, 20, 9), folder / ".hidden.png")
    done = fastgan("stylize", run, folder, "--out", out, "--precision", "fp32")
    assert done.code == 0 and "5 pictures" in done.out
    assert done.err == f"fastgan: {folder}: passed over: files of other kinds: 1 (1 .txt)\n"
    assert names(out) == sorted(sizes)
    model = package.load(run, device="cpu", precision="fp32")
    for name, size in sizes.items():
        with Image.open(out / name) as made:
            assert made.size == size[::-1]
        if name.endswith((".png", ".bmp")):
            assert np.array_equal(pixels(out / name), model(np.asarray(Image.open(folder / name))))


def test_files_and_folders_together(fastgan: Command, run: Path, tmp_path: Path) -> None:
    one = save_picture(picture(20, 20, 0), tmp_path / "x" / "one.png")
    save_picture(picture(20, 20, 1), tmp_path / "y" / "sub" / "two.png")
    for model in (run, run / "model", run / "model" / "generator.safetensors"):
        out = tmp_path / f"out{model.name}"
        assert fastgan("stylize", model, one, tmp_path / "y", "--out", out).code == 0
        assert names(out) == ["one.png", "sub/two.png"]


def test_any_style_is_the_model_where_none_is_given(fastgan: Command, tmp_path: Path) -> None:
    """Before a picture, before a folder and by its name; a style is all that it takes."""
    folder, painting = tmp_path / "in", save_picture(picture(40, 44, 5), tmp_path / "painting.png")
    photo = save_picture(picture(24, 40, 0), folder / "a.png")
    other = save_picture(picture(20, 24, 1), tmp_path / "b.png")
    model = package.load("any-style", device="cpu", precision="fp32")
    want = model(np.array(Image.open(photo)), style=np.array(Image.open(painting)))
    for number, arguments in enumerate(([photo], [photo, other], [folder], ["any-style", photo])):
        out = tmp_path / str(number)
        done = fastgan("stylize", *arguments, "--style", painting, "--out", out, "--precision", "fp32")
        assert done.code == 0 and names(out) == sorted(
            {"a.png", *(path.name for path in arguments[1:] if path == other)}
        )
        assert np.array_equal(pixels(out / "a.png"), want)


def test_profile_and_resolution_are_kept(fastgan: Command, run: Path, tmp_path: Path) -> None:
    for kind in ("png", "jpg", "tif"):
        save(picture(24, 40, 0), tmp_path / "in" / f"a.{kind}", icc_profile=rgb_profile(), dpi=(300, 300))
    save(picture(24, 40, 0), tmp_path / "in" / "b.gif", save_all=True, append_images=[Image.new("RGB", (40, 24))])
    done = fastgan("stylize", run, tmp_path / "in", "--out", tmp_path / "out", "--strength", 0)
    assert done.code == 0 and "b.gif: holds several frames or pages; the first is used" in done.err
    for kind in ("png", "jpg", "tif"):
        with Image.open(tmp_path / "out" / f"a.{kind}") as image:
            assert image.info["icc_profile"] == rgb_profile()
            assert [round(float(value)) for value in image.info["dpi"]] == [300, 300]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(fastgan: Command, run: Path, tmp_path: Path, orientation: int) -> None:
    """Pixels turned one way and a tag that turns them back: the result is the upright one."""
    upright = np.full((24, 40, 3), 40, np.uint8)
    upright[:12, :20] = (230, 60, 40)  # a corner that every turn and flip moves elsewhere
    # How a camera stores it: the inverse of what the tag asks of a viewer (EXIF 2.3).
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = tmp_path / "photo.png"
    Image.fromarray(np.ascontiguousarray(turns[orientation](upright))).save(source, exif=exif)
    out = tmp_path / "out"
    assert fastgan("stylize", run, source, "--out", out, "--strength", 0).code == 0
    with Image.open(out / "photo.png") as made:
        assert made.size == (40, 24) and made.getexif().get(0x0112, 1) == 1
        assert np.array_equal(np.asarray(made.convert("RGB")), upright)


def test_transparency_is_kept(fastgan: Command, run: Path, tmp_path: Path) -> None:
    alpha = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (24, 1))
    source = save_picture(np.dstack([picture(24, 40, 0), alpha]), tmp_path / "logo.png")
    assert fastgan("stylize", run, source, "--out", tmp_path / "out").code == 0
    made = Image.open(tmp_path / "out" / "logo.png")
    assert made.mode == "RGBA" and np.array_equal(np.asarray(made)[..., 3], alpha)


def test_strength(fastgan: Command, run: Path, tmp_path: Path) -> None:
    source = save_picture(picture(30, 31, 3), tmp_path / "a.png")
    made = {}
    for strength in (0, 0.5, 1):
        out = tmp_path / str(strength)
        assert fastgan("stylize", run, source, "--out", out, "--strength", strength).code == 0
        made[strength] = pixels(out / "a.png")
    assert np.array_equal(made[0], pixels(source))
    assert np.abs(made[1] - made[0]).max() > 1  # more than another rounding
    assert np.abs(made[0.5] - (made[0] + made[1]) / 2).max() <= 1  # each is rounded to 8 bits


def test_tiles(fastgan: Command, run: Path, tmp_path: Path) -> None:
    source = save_picture(picture(90, 200, 3), tmp_path / "a.png")
    model = package.load(run, device="cpu", precision="fp32")
    options = ["--precision", "fp32", "--tile", model.min_tile]
    assert fastgan("stylize", run, source, "--out", tmp_path / "out", *options).code == 0
    assert np.array_equal(pixels(tmp_path / "out" / "a.png"), model(np.array(Image.open(source)), tile=model.min_tile))


def test_broken_among_good(fastgan: Command, run: Path, tmp_path: Path) -> None:
    """In a folder, or among files named one by one as a shell's *.png does."""
    folder = tmp_path / "in"
    good = [save_picture(picture(20, 20, number), folder / f"{number}.png") for number in range(2)]
    bad = folder / "bad.jpg"
    bad.write_text("no picture")
    for number, inputs in enumerate(([folder], [good[0], bad, good[1]])):
        out = tmp_path / f"out{number}"
        done = fastgan("stylize", run, *inputs, "--out", out)
        assert done.code == 3 and names(out) == ["0.png", "1.png"]
        assert done.err.count("bad.jpg") == 1 and len(done.err.splitlines()) == 1
        assert "2 pictures" in done.out and "1 skipped" in done.out


def test_nothing_readable(fastgan: Command, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.jpg").write_text("no picture")
    for inputs in ([folder], [folder / "0.jpg"], [folder / "0.jpg", folder / "1.jpg"]):
        complaint = fastgan("stylize", run, *inputs, "--out", tmp_path / "out").complaint
        assert ".jpg" in complaint and not (tmp_path / "out").exists()


def test_a_picture_given_twice_is_taken_once(fastgan: Command, run: Path, tmp_path: Path) -> None:
    """As itself, by another spelling, by its folder, and by a link to that; a second name in a folder is an output."""
    one = save_picture(picture(20, 20, 0), tmp_path / "in" / "one.png")
    (tmp_path / "in" / "two.png").hardlink_to(one)
    (tmp_path / "linked").symlink_to("in")
    spelled = tmp_path / "in" / ".." / "in" / "one.png"
    done = fastgan("stylize", run, one, one, spelled, tmp_path / "in", tmp_path / "linked", "--out", tmp_path / "out")
    assert done.code == 0 and "2 pictures" in done.out
    assert done.err == f"fastgan: given more than once, taken once: 5 (first {one})\n"
    assert names(tmp_path / "out") == ["one.png", "two.png"]


def test_two_inputs_of_one_name(fastgan: Command, run: Path, tmp_path: Path) -> None:
    paths = [save_picture(picture(20, 20, 0), tmp_path / place / "a.png") for place in ("x", "y")]
    complaint = fastgan("stylize", run, *paths, "--out", tmp_path / "out").complaint
    assert str(paths[0]) in complaint and str(paths[1]) in complaint and not (tmp_path / "out").exists()
    assert "a.png" in fastgan("stylize", run, paths[0], tmp_path / "y", "--out", tmp_path / "out").complaint


def test_an_input_is_never_replaced(fastgan: Command, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    save_picture(picture(20, 20, 0), folder / "a.png")
    save_picture(picture(20, 20, 1), folder / "sub" / "b.png")
    (tmp_path / "link").symlink_to(folder)
    before = fingerprint(folder)
    for inputs, out in (
        ([folder], folder),
        ([folder], tmp_path / "link"),
        ([folder / "a.png"], folder),
        ([folder], folder / "sub" / ".."),
        ([tmp_path / "link"], folder),
    ):
        complaint = fastgan("stylize", run, *inputs, "--out", out).complaint
        assert "would replace" in complaint and "another folder" in complaint
    assert fingerprint(folder) == before


def test_an_input_is_not_replaced_by_the_result_of_another(fastgan: Command, run: Path, tmp_path: Path) -> None:
    first = save_picture(picture(20, 20, 0), tmp_path / "x" / "b.png")
    save_picture(picture(20, 20, 1), tmp_path / "out" / "b.png")
    save_picture(picture(20, 20, 2), tmp_path / "out" / "z" / "c.png")
    before = fingerprint(tmp_path)
    # x/b.png would become out/b.png, which is itself an input (as out/b.png of the folder above it).
    complaint = fastgan("stylize", run, first, tmp_path, "--out", tmp_path / "out").complaint
    assert "would replace" in complaint and fingerprint(tmp_path) == before


def test_an_earlier_result_is_replaced(fastgan: Command, run: Path, tmp_path: Path) -> None:
    source = save_picture(picture(20, 20, 0), tmp_path / "a.png")
    for strength in (0, 1):
        assert fastgan("stylize", run, source, "--out", tmp_path / "out", "--strength", strength).code == 0
    assert not np.array_equal(pixels(tmp_path / "out" / "a.png"), pixels(source))
    assert names(tmp_path / "out") == ["a.png"]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
        OSError(5, "Input/output error"),
        ZeroDivisionError("whatever"),
        InputError("cannot be written"),
    ],
)
@pytest.mark.parametrize("place", ["read_picture", "write_image", "run"])
def test_whatever_one_picture_raises(
    place: str, error: Exception, fastgan: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named, counted and passed over, and the exit code says so."""
    pictures = [
        save_picture(picture(20, 20 + number, number), tmp_path / "in" / f"{number}.png") for number in range(3)
    ]
    if place == "run":
        forward = FastGenerator.forward

        def fail_at_one(self: FastGenerator, x: Tensor) -> Tensor:
            if x.shape[-1] == 21:
                raise error
            return forward(self, x)

        monkeypatch.setattr(FastGenerator, "forward", fail_at_one)
    else:
        call = getattr(fastgan_data, place)

        def fail_with_one(*arguments: Any, **options: Any) -> Any:
            if any(isinstance(argument, Path) and argument.name == "1.png" for argument in arguments):
                raise error
            return call(*arguments, **options)

        monkeypatch.setattr(f"fastgan.data.{place}", fail_with_one)
    done = stylized(fastgan, run, tmp_path)
    assert done.code == 3 and names(tmp_path / "out") == ["0.png", "2.png"]
    assert done.err.count("1.png") == 1 and len(done.err.splitlines()) == 1 and "Traceback" not in done.err
    assert done.out == f"2 pictures in {tmp_path / 'out'}, 1 skipped\n"
    assert "1.png" in fastgan("stylize", run, pictures[1], "--out", tmp_path / "alone").complaint


def test_a_full_disk_ends_it(fastgan: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk refuses every further result: they are not computed for nothing."""
    for number in range(4):
        save_picture(picture(20, 20, number), tmp_path / "in" / f"{number}.png")
    write, full = fastgan_data.write_image, {"1.png", "2.png", "3.png"}
    asked: list[str] = []

    def refuse(image: np.ndarray, path: Path, **options: Any) -> None:
        asked.append(path.name)
        if path.name in full:
            raise InputError(f"{path}: cannot be written") from OSError(28, "No space left on device")
        write(image, path, **options)

    monkeypatch.setattr("fastgan.data.write_image", refuse)
    done = stylized(fastgan, run, tmp_path)
    assert done.code == 1 and names(tmp_path / "out") == ["0.png"] and asked == ["0.png", "1.png"]
    assert done.err.count("\n") == 1 and "1.png" in done.err and "1 of 4 pictures are in" in done.err
    full.add("0.png")
    assert stylized(fastgan, run, tmp_path).code == 2  # nothing is done


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_says_what_is_done(
    fastgan: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    for index in range(3):
        save_picture(picture(20, 20, index), tmp_path / "in" / f"{index}.png")
    (tmp_path / "in" / "0.png").write_text("no picture")
    read = fastgan_data.read_picture

    def interrupted(path: Path) -> Any:
        if path.name == "2.png":
            os.kill(os.getpid(), number)
        return read(path)

    monkeypatch.setattr("fastgan.data.read_picture", interrupted)
    done = stylized(fastgan, run, tmp_path)
    assert done.code == 128 + number and names(tmp_path / "out") == ["1.png"] and done.out == ""
    assert done.err.splitlines()[1:] == [f"fastgan: interrupted; 1 of 3 pictures are in {tmp_path / 'out'}"]
    assert "0.png" in done.err.splitlines()[0]


def test_out_names_the_one_picture(fastgan: Command, run: Path, tmp_path: Path) -> None:
    source = save_picture(picture(20, 24, 0), tmp_path / "a.png")
    for inputs in ([source], [source, tmp_path / "." / "a.png"]):
        done = fastgan("stylize", run, *inputs, "--out", tmp_path / "new" / "x.JPG")
        assert done.code == 0 and done.out == f"1 picture in {tmp_path / 'new' / 'x.JPG'}\n"
    with Image.open(tmp_path / "new" / "x.JPG") as made:
        assert made.format == "JPEG" and made.size == (24, 20)
    (tmp_path / "folder.jpg").mkdir()
    assert fastgan("stylize", run, source, "--out", tmp_path / "folder.jpg").code == 0
    assert names(tmp_path / "folder.jpg") == ["a.png"]


def stylized(fastgan: Command, run: Path, place: Path) -> Result:
    return fastgan("stylize", run, place / "in", "--out", place / "out")
