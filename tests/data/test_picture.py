"""Pillow's images by the rules of files: orientation, transparency, depth, profile, resolution."""

import io
from pathlib import Path

import numpy as np
import pytest
from helpers.picture_files import noise, png_16_bit, png_chunk, png_gray, rgb_profile, save, smooth, tiff_with
from PIL import Image, ImageCms, ImageOps

from fastgan.data import Picture, from_pil, picture, picture_from_pil, read_image, read_picture, write_image
from fastgan.errors import InputError
from fastgan.utils.memory import BUDGET_VARIABLE


def both_ways(file: Path) -> Picture:
    """The result of ``read_picture``, after a check that an opened image gives the same, decoded before or not."""
    read = read_picture(file)
    for decoded in (False, True):
        image = Image.open(file)
        if decoded:
            image.load()
        own = picture_from_pil(image)
        assert np.array_equal(own.pixels, read.pixels)
        assert (own.alpha is None) == (read.alpha is None)
        assert own.alpha is None or np.array_equal(own.alpha, read.alpha)
        assert (own.icc_profile, own.dpi) == (read.icc_profile, read.dpi)
        assert np.array_equal(from_pil(image), read_image(file))
    return read


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif"])
def test_orientation_is_one_rule(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = save(smooth(40, 60), tmp_path / f"a.{kind}", exif=exif)
    turned = both_ways(file)
    want = np.asarray(ImageOps.exif_transpose(Image.open(file)).convert("RGB"))
    assert np.array_equal(turned.pixels, want)
    # What is made of it is upright, and says nothing that would turn it again.
    assert turned.to_pil().getexif().get(0x0112) is None
    write_image(turned.pixels, tmp_path / "out.png", alpha=turned.alpha)
    assert np.array_equal(both_ways(tmp_path / "out.png").pixels, want)


def test_the_callers_image_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_gray(np.indices((16, 16)).sum(0) % 4, 2, 1))
    image = Image.open(tmp_path / "a.png")
    image.load()
    before, info = image.tobytes(), dict(image.info)
    picture_from_pil(image)
    assert image.tobytes() == before and image.info == info


@pytest.mark.parametrize("depth", [2, 4, 8, 16])
def test_a_transparent_gray_of_any_depth(tmp_path: Path, depth: int) -> None:
    values = np.random.default_rng(0).integers(0, 2**depth, (20, 24))
    key = int(values[3, 5])
    (tmp_path / "a.png").write_bytes(png_gray(values, depth, key))
    read = read_picture(tmp_path / "a.png")
    assert read.alpha is not None and np.array_equal(read.alpha == 0, values == key)
    seen = values != key
    assert np.abs(read.pixels[seen][:, 0] - values[seen] / (2**depth - 1) * 255).max() <= 1
    assert (read.pixels[~seen] == 255).all() and (read_image(tmp_path / "a.png")[~seen] == 255).all()
    if depth > 4:
        both_ways(tmp_path / "a.png")


def test_a_transparent_color_of_16_bits(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (20, 24, 3)).astype(np.uint16)
    whole = png_16_bit(pixels)
    key = png_chunk(b"tRNS", pixels[3, 5].astype(">u2").tobytes())
    (tmp_path / "a.png").write_bytes(whole[:33] + key + whole[33:])  # behind the header
    alpha = both_ways(tmp_path / "a.png").alpha
    assert alpha is not None and np.argwhere(alpha == 0).tolist() == [[3, 5]]


@pytest.mark.parametrize(
    ("dtype", "top"), [(np.uint16, 65535), (np.int32, 65535), (np.int32, 2**31 - 1), (np.float32, 1), (np.float32, 255)]
)
def test_deep_pictures_are_scaled(tmp_path: Path, dtype: type, top: int) -> None:
    ramp: np.ndarray = np.linspace(0, top, 32 * 32).reshape(32, 32).astype(dtype)
    Image.fromarray(ramp).save(tmp_path / "a.tif")
    assert np.abs(both_ways(tmp_path / "a.tif").pixels[..., 0] - ramp / top * 255).max() <= 0.5 + 1e-4


def test_integers_without_a_sign(tmp_path: Path) -> None:
    ramp = np.linspace(0, 2**32 - 1, 32 * 32).reshape(32, 32)
    # Pillow writes signed ones alone: the same bits, and the sample format changed.
    signed = save(ramp.astype(np.uint32).view(np.int32), tmp_path / "a.tif")
    signed.write_bytes(tiff_with(signed.read_bytes(), {339: (339, 1)}))
    assert np.abs(both_ways(tmp_path / "a.tif").pixels[..., 0] - ramp / (2**32 - 1) * 255).max() <= 0.5 + 1e-4


def test_floats_that_are_no_numbers(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    ramp[0, :3] = np.nan, np.inf, -np.inf
    Image.fromarray(ramp).save(tmp_path / "a.tif")
    assert both_ways(tmp_path / "a.tif").pixels.ravel()[:12:3].tolist() == [0, 255, 0, 3]


def test_strips_are_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large pictures are converted by strips; small ones show that it makes no difference."""
    files = [save(noise(41, 30), tmp_path / "a.png")]
    files.append(save(np.dstack([noise(41, 30), noise(41, 30, 1)[..., 0]]), tmp_path / "b.png"))
    (tmp_path / "c.png").write_bytes(png_gray(noise(41, 30)[..., 0].astype(int) * 257, 16, 257))
    Image.fromarray(noise(41, 30)[..., 0] / np.float32(200)).save(tmp_path / "d.tif")
    files += [tmp_path / "c.png", tmp_path / "d.tif"]
    whole = [(read_picture(file), read_image(file, reduce_to=3 * 4)) for file in files]
    monkeypatch.setattr(picture, "_STRIP_PIXELS", 30 * 4)
    monkeypatch.setattr(picture, "MIN_SIDE", 1)
    for file, (at_once, reduced) in zip(files, whole, strict=True):
        strips = both_ways(file)
        assert np.array_equal(strips.pixels, at_once.pixels)
        assert (strips.alpha is None) == (at_once.alpha is None)
        assert strips.alpha is None or np.array_equal(strips.alpha, at_once.alpha)
        assert np.array_equal(read_image(file, reduce_to=12), reduced)
        by_strips = picture.to_arrays(Image.open(file), reduce_by=3)[0]
        monkeypatch.setattr(picture, "_STRIP_PIXELS", 1 << 22)
        assert by_strips.shape == (14, 10, 3)
        assert np.array_equal(by_strips, picture.to_arrays(Image.open(file), reduce_by=3)[0])
        monkeypatch.setattr(picture, "_STRIP_PIXELS", 30 * 4)


def test_profile_and_resolution_are_read(tmp_path: Path) -> None:
    for kind in ("png", "jpg", "tif"):
        read = both_ways(save(noise(), tmp_path / f"a.{kind}", icc_profile=rgb_profile(), dpi=(300, 150)))
        assert read.icc_profile == rgb_profile()
        assert read.dpi == pytest.approx((300, 150), abs=0.02)
        image = read.to_pil()
        assert (image.info["icc_profile"], image.info["dpi"]) == (read.icc_profile, read.dpi)


def test_the_resolution_turns_with_the_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = save(noise(), tmp_path / "a.png", exif=exif, dpi=(300, 150))
    assert both_ways(file).dpi == pytest.approx((150, 300), abs=0.02)


def test_a_profile_of_other_colors_is_dropped(tmp_path: Path) -> None:
    """It says nothing of the RGB that was made of them."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for profile in (lab, b"junk", b""):
        assert both_ways(save(noise(), tmp_path / "a.png", icc_profile=profile)).icc_profile is None


@pytest.mark.parametrize("dpi", [(0, 0), (1, 1), (1e9, 72)])
def test_a_resolution_that_is_none_is_dropped(tmp_path: Path, dpi: tuple[float, float]) -> None:
    image = Image.fromarray(noise())
    image.info["dpi"] = dpi
    assert picture_from_pil(image).dpi is None


def test_an_image_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    whole = save(noise(200, 200), tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.png: the image is damaged or cut short"):
        from_pil(Image.open(tmp_path / "cut.png"))
    with pytest.raises(InputError, match=r"the image: the image is damaged"):
        from_pil(Image.open(io.BytesIO(whole[: len(whole) // 2])))
    with pytest.raises(InputError, match=r"the image: its colors \(La\) have no way to RGB"):
        from_pil(Image.new("La", (20, 20)))


def test_sizes_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="too small, 30 x 7 px"):
        from_pil(Image.new("RGB", (30, 7)))
    monkeypatch.setenv(BUDGET_VARIABLE, "1M")
    with pytest.raises(InputError, match="too large, 400 x 400 px"):
        from_pil(Image.new("RGB", (400, 400)))
