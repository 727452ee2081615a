"""Reading: whatever the file holds comes out as upright 8-bit RGB, or as one line that says what is wrong."""

import contextlib
import io
import os
import socket
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from helpers.picture_files import noise, png_16_bit, png_chunk, png_header, save, smooth, tiff_with
from PIL import Image

from fastgan.data import (
    decode,
    failures,
    is_readable,
    read_for_features,
    read_image,
    read_picture,
    reduce_short_side,
)
from fastgan.errors import InputError
from fastgan.utils.memory import BUDGET_VARIABLE

# EXIF 2.3, tag 0x0112: which side of the upright picture the stored row 0 and column 0 are.
EXIF = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def stored_as(upright: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels a camera held in this orientation writes for a picture that should look like ``upright``."""
    row_side, column_side = EXIF[orientation]
    along_rows = upright if row_side in ("top", "bottom") else upright.swapaxes(0, 1)
    along_rows = along_rows[::-1] if row_side in ("bottom", "right") else along_rows
    return along_rows[:, ::-1] if column_side in ("bottom", "right") else along_rows


def refused(path: Path, *words: str) -> str:
    with pytest.raises(InputError) as caught:
        read_image(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (path.name, *words):
        assert word in message
    return message


@pytest.mark.parametrize("orientation", EXIF)
@pytest.mark.parametrize("suffix", ["png", "tiff", "jpg"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright = smooth(40, 72)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = save(np.ascontiguousarray(stored_as(upright, orientation)), tmp_path / f"a.{suffix}", exif=exif, quality=98)
    image = read_image(file)
    assert image.shape == upright.shape
    turned = np.abs(upright[::-1].astype(int) - upright).max()
    assert np.abs(image.astype(int) - upright).max() <= (turned / 10 if suffix == "jpg" else 0)
    assert read_image(file, reduce_to=20).shape == (20, 36, 3)
    assert read_picture(file).pixels.shape == upright.shape


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_cost_the_picture(tmp_path: Path) -> None:
    file = save(noise(), tmp_path / "a.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\x01\x02")
    assert np.array_equal(read_image(file), noise())


def test_16_bit_gray_is_scaled(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    expected = np.rint(ramp / 257).astype(np.uint8)
    (tmp_path / "gray.png").write_bytes(png_16_bit(ramp))
    Image.fromarray(ramp).save(tmp_path / "gray.tif")
    Image.fromarray(ramp.astype(np.int32)).save(tmp_path / "deep.tif")
    for name in ("gray.png", "gray.tif", "deep.tif"):
        image = read_image(tmp_path / name)
        assert image.dtype == np.uint8 and image.shape == (32, 32, 3), name
        assert all(np.array_equal(image[..., channel], expected) for channel in range(3)), name


def test_16_bit_color_is_scaled(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (24, 24, 3)).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(png_16_bit(pixels))
    assert np.abs(read_image(tmp_path / "a.png") - pixels / 257).max() <= 1  # the low byte may be cut off


def test_float_picture(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "a.tif")
    assert np.array_equal(read_image(tmp_path / "a.tif")[..., 0], np.arange(256).reshape(16, 16))


def test_palette_with_transparency(tmp_path: Path) -> None:
    colors = np.array([[255, 0, 0], [0, 200, 0], [10, 20, 30]], np.uint8)
    index = np.random.default_rng(0).integers(0, 3, (16, 20)).astype(np.uint8)
    picture = Image.fromarray(index)
    picture.putpalette(colors.tobytes())
    picture.save(tmp_path / "plain.png")
    assert np.array_equal(read_image(tmp_path / "plain.png"), colors[index])
    for name in ("seen.png", "seen.gif"):
        picture.save(tmp_path / name, transparency=1)
        expected = np.where((index == 1)[..., None], 255, colors[index])
        assert np.array_equal(read_image(tmp_path / name), expected), name
        read = read_picture(tmp_path / name)
        assert read.alpha is not None and np.array_equal(read.alpha, np.where(index == 1, 0, 255)), name
        assert np.array_equal(read.pixels, expected), name


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_laid_on_white(tmp_path: Path, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 30, channels), dtype=np.uint8)
    file = save(pixels, tmp_path / "a.png")
    color, opacity = pixels[..., :-1].astype(float), pixels[..., -1:] / 255
    expected = np.broadcast_to(color * opacity + 255 * (1 - opacity), (30, 30, 3))
    assert np.abs(read_image(file) - expected).max() <= 1  # rounded or cut off to 8 bits
    read = read_picture(file)
    assert read.alpha is not None and np.array_equal(read.alpha, pixels[..., -1])
    seen = read.alpha > 0
    assert np.array_equal(read.pixels[seen], np.broadcast_to(pixels[..., :-1], (30, 30, 3))[seen])
    assert (read.pixels[~seen] == 255).all()


def test_opaque_picture_has_no_alpha(tmp_path: Path) -> None:
    assert read_picture(save(noise(), tmp_path / "a.png")).alpha is None


def test_cmyk(tmp_path: Path) -> None:
    ink = np.concatenate([smooth(32, 32), smooth(32, 32)[::-1, :, :1]], -1)
    expected = 255 * (1 - ink[..., :3] / 255) * (1 - ink[..., 3:] / 255)
    picture = Image.frombytes("CMYK", (32, 32), ink.tobytes())
    picture.save(tmp_path / "a.tif")
    picture.save(tmp_path / "a.jpg", quality=98)
    assert np.abs(read_image(tmp_path / "a.tif") - expected).max() <= 2  # two roundings
    # Quality 98 divides coefficients by 5 at most: each ink is off by 2.5 at most (root mean square), and two make a
    # color. Without the black it would be off by 40.
    assert np.abs(read_image(tmp_path / "a.jpg") - expected).mean() <= 2 * 2.5 + 2


def test_gray_and_bilevel(tmp_path: Path) -> None:
    gray = noise()[..., 0]
    assert np.array_equal(read_image(save(gray, tmp_path / "a.png")), np.repeat(gray[..., None], 3, -1))
    bits = gray > 127
    assert np.array_equal(read_image(save(bits, tmp_path / "b.png"))[..., 2], bits * np.uint8(255))


@pytest.mark.parametrize("name", ["a.tif", "a.webp", "a.gif", "a.png"])
def test_of_several_frames_the_first_is_read_and_that_is_told_once(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(decode, "_told", set())
    first, second = (Image.fromarray(noise(seed=seed)).quantize(16).convert("RGB") for seed in (1, 2))
    first.save(tmp_path / name, save_all=True, append_images=[second], lossless=True)
    assert np.array_equal(read_image(tmp_path / name), np.asarray(first))
    assert np.array_equal(read_picture(tmp_path / name).pixels, np.asarray(first))
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / name}: holds several frames or pages; the first is used"
    ]


def test_many_files_of_several_frames_are_not_all_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(decode, "_told", set())
    picture = Image.fromarray(noise(12, 12))
    for number in range(9):
        picture.save(tmp_path / f"{number}.tif", save_all=True, append_images=[picture])
        read_image(tmp_path / f"{number}.tif")
    assert len(caplog.records) == 6 and "no more are named" in caplog.records[-1].getMessage()


def test_one_frame_is_nothing_to_tell(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for kind in ("tif", "webp", "gif", "png", "jpg"):
        read_image(save(noise(), tmp_path / f"a.{kind}"))
    assert not caplog.records


def test_format_is_found_by_content(tmp_path: Path) -> None:
    save(noise(), tmp_path / "really.png").rename(tmp_path / "called.jpg")
    assert np.array_equal(read_image(tmp_path / "called.jpg"), noise())


# --- resizing on the way


def test_reduce_to_sets_the_short_side_and_never_enlarges(tmp_path: Path) -> None:
    file = save(smooth(300, 200), tmp_path / "a.png")
    assert read_image(file, reduce_to=50).shape == (75, 50, 3)
    assert np.array_equal(read_image(file, reduce_to=200), smooth(300, 200))
    assert np.array_equal(read_image(file, reduce_to=999), smooth(300, 200))
    # Half a pixel beside its place it would be off by half of the steepest slope, 120 * 5 / 50.
    assert np.abs(read_image(file, reduce_to=50).astype(int) - smooth(75, 50)).max() <= 4


def test_reducing_a_jpeg_while_decoding_looks_the_same(tmp_path: Path) -> None:
    file = save(smooth(1200, 1600), tmp_path / "a.jpg", quality=95)
    quick = read_image(file, reduce_to=100).astype(int)
    assert quick.shape == (100, 133, 3)
    # The slope is 120 * 4 / 100 and more: a picture half a pixel beside its place is off by more.
    assert np.abs(quick - reduce_short_side(read_image(file), 100)).max() <= 2


def test_what_is_much_too_large_is_reduced_while_it_is_decoded(tmp_path: Path) -> None:
    for mode in ("RGB", "L", "P", "CMYK", "I;16"):
        picture = Image.fromarray(smooth(901, 1207))
        if mode == "I;16":
            picture = Image.fromarray(smooth(901, 1207)[..., 0].astype(np.uint16) * 257)
        elif mode != "RGB":
            picture = picture.convert(mode)
        picture.save(tmp_path / "a.tif")
        quick = read_image(tmp_path / "a.tif", reduce_to=50).astype(int)
        slow = reduce_short_side(read_image(tmp_path / "a.tif"), 50)
        assert quick.shape == slow.shape == (50, 67, 3)
        # The last box of whole pixels may be cut by the edge: a quarter of a pixel beside its place at most, where
        # slopes are up to 120 * 5 / 50. A palette's steps are no slopes.
        assert np.abs(quick - slow).mean() <= 120 * 5 / 50 / 4, mode


def test_a_reduced_picture_is_on_white_first(tmp_path: Path) -> None:
    pixels = np.zeros((400, 400, 4), np.uint8)
    pixels[:, ::2, 3] = 255  # every other column is black, the rest shows what is below
    file = save(pixels, tmp_path / "a.png")
    assert np.abs(read_image(file, reduce_to=25).astype(int) - 127).max() <= 1


def test_both_sides_at_once(tmp_path: Path) -> None:
    file = save(smooth(300, 200), tmp_path / "a.png")
    assert read_image(file, reduce_to=100, enlarge_to=50).shape == (150, 100, 3)
    assert read_image(file, reduce_to=400, enlarge_to=250).shape == (375, 250, 3)
    assert read_for_features(save(noise(12, 60), tmp_path / "b.png")).shape == (32, 160, 3)


# --- the memory budget


def test_what_is_made_of_a_picture_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(noise(12, 6000), tmp_path / "strip.png")
    jpeg = save(noise(12, 6000), tmp_path / "strip.jpg")
    monkeypatch.setenv(BUDGET_VARIABLE, "100M")
    for path in (file, jpeg):
        assert read_image(path, reduce_to=256).shape == (12, 6000, 3)
        with pytest.raises(InputError, match=r"strip.*6000 x 12 px; enlarged to 128000 x 256 px it takes 250\.0 MiB"):
            read_image(path, reduce_to=256, enlarge_to=256)
        with pytest.raises(InputError, match=r"strip.*16000 x 32 px it takes"):
            read_for_features(path)
        assert not is_readable(path)


def test_crops_of_a_style_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(noise(32, 600), tmp_path / "a.png")
    monkeypatch.setenv(BUDGET_VARIABLE, "100M")
    assert read_for_features(file, crop_size=256).shape == (32, 600, 3)
    with pytest.raises(InputError, match=r"a\.png: 600 x 32 px; enlarged to 38400 x 2048 px it takes"):
        read_for_features(file, crop_size=2048)


def test_a_large_picture_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = {kind: save(noise(700, 900), tmp_path / f"a.{kind}") for kind in ("png", "jpg", "webp", "tif", "bmp")}
    monkeypatch.setenv(BUDGET_VARIABLE, "4M")
    monkeypatch.setattr(decode, "to_arrays", None)
    for path in pictures.values():
        refused(path, "too large", "900 x 700", "4.0 MiB", BUDGET_VARIABLE)


def test_a_jpeg_counts_at_the_size_that_it_is_decoded_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(smooth(1600, 2000), tmp_path / "a.jpg")
    progressive = save(smooth(1600, 2000), tmp_path / "b.jpg", progressive=True)
    monkeypatch.setenv(BUDGET_VARIABLE, "4M")
    refused(file, "too large")
    assert read_image(file, reduce_to=50).shape == (50, 62, 3)
    with pytest.raises(InputError, match="too large"):  # its coefficients are there at full size
        read_image(progressive, reduce_to=50)


def test_a_tile_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(noise(64, 64), tmp_path / "a.tif", dpi=(72, 72))
    # Strips become tiles: their height and the unit of the resolution become the sides, offsets and lengths stay.
    changes = {278: (322, 16384), 296: (323, 16384), 273: (324, -1), 279: (325, -1)}
    file.write_bytes(tiff_with(file.read_bytes(), changes))
    monkeypatch.setenv(BUDGET_VARIABLE, "100M")
    refused(file, "a tile of 16384 x 16384 px")


# --- what is refused


def test_not_there_and_not_a_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.jpg", "no such file")
    refused(tmp_path, "is a folder")
    os.mkfifo(tmp_path / "pipe.jpg")
    refused(tmp_path / "pipe.jpg", "not a regular file")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    refused(tmp_path / "loop.jpg", "symbolic links")
    odd = tmp_path / "odd\n.png"
    odd.mkdir()
    with pytest.raises(InputError, match=r"odd\\n\.png: is a folder, not a regular file$"):
        read_image(odd)


def test_a_file_whose_reading_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "RETRY_DELAYS", ())
    (tmp_path / "memory.jpg").symlink_to("/proc/self/mem")
    refused(tmp_path / "memory.jpg", "cannot be read", "Input/output error")


@pytest.mark.parametrize("after", [0, 1])
def test_a_file_whose_reading_fails_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    monkeypatch.setattr(failures, "RETRY_DELAYS", ())

    class Failing(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1) -> bytes:
            self.reads += 1
            if self.reads > after:
                raise OSError(5, "Input/output error")
            return super().read(size)

    content = {kind: save(noise(), tmp_path / f"a.{kind}").read_bytes() for kind in ("jpg", "png", "tif", "gif")}
    for kind, whole in content.items():
        monkeypatch.setattr(decode, "open_regular", lambda *_, whole=whole: Failing(whole))
        refused(tmp_path / f"a.{kind}", "cannot be read (Input/output error)")


def test_what_becomes_a_pipe_while_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(noise(), tmp_path / "a.png")
    regular = file.stat()
    file.unlink()
    os.mkfifo(file)
    monkeypatch.setattr(os, "stat", lambda *_, **__: regular)
    refused(file, "not a regular file")


def test_devices_and_sockets(tmp_path: Path) -> None:
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    refused(tmp_path / "zero.jpg", "not a regular file")
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(tmp_path):  # their paths have 107 bytes at most
        server.bind("socket.jpg")
    refused(tmp_path / "socket.jpg", "not a regular file")


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(InputError, match="null byte"):
        read_image("a\0b.png")


def test_pictures_of_phones_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    refused(tmp_path / "a.heic", "it is HEIC, AVIF or a film")


def test_text_and_empty_files_called_jpg(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("this is no picture\n" * 50)
    refused(tmp_path / "text.jpg", "not an image", "JPEG, PNG")
    (tmp_path / "empty.jpg").touch()
    refused(tmp_path / "empty.jpg", "not an image", "empty")


def test_formats_that_run_programs_stay_out(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n")
    refused(tmp_path / "a.jpg", "not an image")


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif", "bmp", "ppm"])
@pytest.mark.parametrize("keep", [0.02, 0.3, 0.9])
def test_cut_short(tmp_path: Path, kind: str, keep: float) -> None:
    whole = io.BytesIO()
    Image.fromarray(noise(200, 300)).save(whole, format=Image.registered_extensions()[f".{kind}"])
    file = tmp_path / f"a.{kind}"
    file.write_bytes(whole.getvalue()[: int(len(whole.getvalue()) * keep)])
    refused(file)
    assert not is_readable(file)


def test_random_damage_raises_nothing_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for kind in ("jpg", "png", "webp", "tif", "gif", "bmp", "ppm"):
        whole = io.BytesIO()
        Image.fromarray(noise(40, 40)).save(whole, format=Image.registered_extensions()[f".{kind}"])
        for _ in range(40):
            content = np.frombuffer(whole.getvalue(), np.uint8).copy()
            content[rng.integers(0, min(len(content), 400), 6)] = rng.integers(0, 256, 6)
            file = tmp_path / f"a.{kind}"
            file.write_bytes(content.tobytes())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow remarks on what is odd in a file
                try:
                    image = read_image(file)
                except InputError as error:
                    assert "\n" not in str(error)
                else:
                    assert image.dtype == np.uint8 and image.shape[2] == 3


def test_one_pixel(tmp_path: Path) -> None:
    refused(save(noise(1, 1), tmp_path / "a.png"), "1 x 1", "at least 11")
    refused(save(noise(7, 300), tmp_path / "a.png"), "300 x 7", "at least 11")
    assert read_image(save(noise(11, 300), tmp_path / "a.png")).shape == (11, 300, 3)


@pytest.mark.parametrize("rest", [b"", png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")])
def test_huge_png_is_refused_by_its_header(tmp_path: Path, rest: bytes) -> None:
    (tmp_path / "huge.png").write_bytes(png_header(40_000, 40_000) + rest)
    refused(tmp_path / "huge.png", "too large", "40000 x 40000", "2.0 GiB", BUDGET_VARIABLE)


def test_huge_jpeg_is_refused_by_its_header(tmp_path: Path) -> None:
    content = bytearray(save(noise(16, 16), tmp_path / "a.jpg").read_bytes())
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", 30_000, 60_000)
    (tmp_path / "huge.jpg").write_bytes(content)
    refused(tmp_path / "huge.jpg", "too large", "60000 x 30000")


def test_pillows_own_limit_plays_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(noise(), tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read_image(file), noise())


def test_odd_file_names_stay_on_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_image(tmp_path / "two\nlines.jpg")
    assert "\n" not in str(caught.value) and "two\\nlines.jpg" in str(caught.value)
