"""Writing: the picture that was given comes back, whole or not at all."""

import errno
import os
import resource
import stat
from pathlib import Path

import numpy as np
import pytest
from helpers.picture_files import noise, rgb_profile, smooth
from PIL import Image

from fastgan.data import IMAGE_SUFFIXES, read_image, read_picture, write_image
from fastgan.errors import InputError


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".TIFF", ".ppm"])
def test_lossless_formats_give_the_picture_back(tmp_path: Path, suffix: str) -> None:
    write_image(noise(), tmp_path / f"a{suffix}")
    assert np.array_equal(np.asarray(Image.open(tmp_path / f"a{suffix}")), noise())


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_every_suffix_read_is_written(tmp_path: Path, suffix: str) -> None:
    picture = smooth(33, 50)
    write_image(picture, tmp_path / f"a{suffix}")
    read = read_image(tmp_path / f"a{suffix}")
    assert read.shape == picture.shape
    # GIF has 256 colors, 6 or 7 levels a channel: 255 / 6 / 4 off in the mean. Channels that are swapped are 70 off.
    assert np.abs(read.astype(int) - picture).mean() <= 255 / 6 / 4
    assert os.listdir(tmp_path) == [f"a{suffix}"]


def test_jpeg_keeps_sharp_color(tmp_path: Path) -> None:
    # One pixel columns of red and blue: any chroma subsampling would mix them to violet.
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 2] = 255
    write_image(stripes, tmp_path / "a.jpg")
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - stripes).mean() < 8  # violet is 85 off


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_alpha_survives(tmp_path: Path, suffix: str) -> None:
    picture, alpha = noise(), noise(seed=1)[..., 0]
    write_image(picture, tmp_path / f"a{suffix}", alpha=alpha)
    stored = np.asarray(Image.open(tmp_path / f"a{suffix}"))
    assert np.array_equal(stored[..., :3], picture) and np.array_equal(stored[..., 3], alpha)
    read = read_picture(tmp_path / f"a{suffix}")
    assert read.alpha is not None and np.array_equal(read.alpha, alpha)
    assert np.array_equal(read.pixels[alpha > 0], picture[alpha > 0])


def test_alpha_without_a_place_is_laid_on_white(tmp_path: Path) -> None:
    alpha = np.repeat(np.array([[0, 255]], np.uint8), 16, 0).repeat(16, 1)
    write_image(np.zeros((16, 32, 3), np.uint8), tmp_path / "a.bmp", alpha=alpha)
    stored = np.asarray(Image.open(tmp_path / "a.bmp"))
    assert (stored[:, :16] == 255).all() and (stored[:, 16:] == 0).all()


@pytest.mark.parametrize("suffix", [".jpg", ".JPE", ".jfif", ".png", ".webp", ".tif"])
def test_the_color_profile_survives(tmp_path: Path, suffix: str) -> None:
    write_image(noise(), tmp_path / f"a{suffix}", icc_profile=rgb_profile())
    with Image.open(tmp_path / f"a{suffix}") as stored:
        assert stored.info["icc_profile"] == rgb_profile()
    assert read_picture(tmp_path / f"a{suffix}").icc_profile == rgb_profile()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp"])
def test_the_resolution_survives(tmp_path: Path, suffix: str) -> None:
    write_image(noise(), tmp_path / f"a{suffix}", dpi=(300, 150))
    dpi = read_picture(tmp_path / f"a{suffix}").dpi
    assert dpi == pytest.approx((300, 150), abs=0.02)  # PNG and BMP store whole pixels a meter, 0.0254 dpi


@pytest.mark.parametrize("suffix", [".gif", ".ppm", ".webp", ".bmp"])
def test_what_a_format_cannot_hold_is_dropped(tmp_path: Path, suffix: str) -> None:
    write_image(smooth(20, 20), tmp_path / f"a{suffix}", icc_profile=rgb_profile(), dpi=(300, 300))
    read = read_picture(tmp_path / f"a{suffix}")
    assert (read.icc_profile is None) == (suffix != ".webp")
    assert (read.dpi is None) == (suffix != ".bmp")


def test_any_strides(tmp_path: Path) -> None:
    write_image(noise()[::-1, ::2], tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), noise()[::-1, ::2])


def test_permissions_are_the_users_own(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_image(noise(), tmp_path / "a.png")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o640


def old_picture(folder: Path) -> Path:
    write_image(noise(seed=9), folder / "a.png")
    return folder / "a.png"


def intact(file: Path) -> None:
    assert np.array_equal(read_image(file), noise(seed=9))
    assert os.listdir(file.parent) == [file.name]


def test_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    file = old_picture(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"a\.png: cannot be written \(File too large"):
            write_image(noise(200, 200), file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    intact(file)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_failure_at_the_last_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    file = old_picture(tmp_path)

    def fail(*_: object) -> None:
        assert len(os.listdir(tmp_path)) == 2  # the new picture waits beside the old one
        raise error

    with monkeypatch.context() as patch, pytest.raises((InputError, KeyboardInterrupt)) as caught:
        patch.setattr(os, "replace", fail)
        write_image(noise(), file)
    assert isinstance(error, KeyboardInterrupt) or "No space left on device" in str(caught.value)
    intact(file)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    for place, reason in (("none/a.png", "no such folder"), ("file/a.png", "no such folder"), ("folder.png", "folder")):
        with pytest.raises(InputError, match=reason) as caught:
            write_image(noise(), tmp_path / place)
        assert place in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.png"]


@pytest.mark.parametrize("name", ["a.xyz", "a", "a.eps"])
def test_unknown_suffix(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"only .*\.jpg"):
        write_image(noise(), tmp_path / name)
    assert not os.listdir(tmp_path)


def test_picture_too_large_for_the_format(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"70000 x 8 px cannot be written as JPEG"):
        write_image(np.zeros((8, 70_000, 3), np.uint8), tmp_path / "a.jpg")
    assert not os.listdir(tmp_path)


def test_wrong_arrays(tmp_path: Path) -> None:
    for image in (noise()[..., 0], noise() / 255, noise()[..., :2]):
        with pytest.raises(ValueError, match="image must be"):
            write_image(image, tmp_path / "a.png")
    with pytest.raises(ValueError, match="alpha must be"):
        write_image(noise(), tmp_path / "a.png", alpha=np.zeros((3, 3), np.uint8))
