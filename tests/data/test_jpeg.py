"""Decoding by a faster library: its pixels are Pillow's."""

import io
from pathlib import Path

import numpy as np
import pytest
from helpers.machine import needs
from helpers.picture_files import noise, save, smooth
from PIL import Image

from fastgan.data import jpeg, read_image
from fastgan.errors import InputError

needs_simplejpeg = needs("simplejpeg on Pillow's libjpeg-turbo")
KINDS = {
    "plain": {"quality": 90},
    "fine colors": {"quality": 95, "subsampling": 0},
    "progressive": {"quality": 80, "progressive": True},
    "restarts": {"quality": 80, "restart_marker_rows": 1},
}


def by_pillow(path: Path, monkeypatch: pytest.MonkeyPatch, reduce_to: int | None = None) -> np.ndarray:
    with monkeypatch.context() as patch:
        patch.setattr(jpeg, "AVAILABLE", False)
        return read_image(path, reduce_to=reduce_to)


@needs_simplejpeg
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(48, 64), (97, 131), (1700, 1601)])
def test_decoders_agree(kind: str, size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, picture in enumerate((noise(*size), smooth(*size))):
        path = save(picture, tmp_path / f"{number}.jpg", **KINDS[kind])
        assert jpeg.decode(path.read_bytes(), below=None, max_pixels=10**8, min_side=1) is not None
        for reduce_to in (None, 40, 400):
            assert np.array_equal(read_image(path, reduce_to=reduce_to), by_pillow(path, monkeypatch, reduce_to))


@needs_simplejpeg
def test_what_is_unusual_is_left_to_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pictures = {
        "turned": save(smooth(40, 60), tmp_path / "turned.jpg", exif=exif),
        "cmyk": tmp_path / "cmyk.jpg",
        "rgb": save(smooth(40, 60), tmp_path / "rgb.jpg", keep_rgb=True),
    }
    Image.fromarray(smooth(40, 60)).convert("CMYK").save(pictures["cmyk"])
    for path in pictures.values():
        assert jpeg.decode(path.read_bytes(), below=None, max_pixels=10**8, min_side=1) is None
        assert np.array_equal(read_image(path), by_pillow(path, monkeypatch))
    assert read_image(pictures["turned"]).shape == (60, 40, 3)
    gray = tmp_path / "gray.jpg"
    Image.fromarray(smooth(40, 60)).convert("L").save(gray)
    assert np.array_equal(read_image(gray), by_pillow(gray, monkeypatch))


@needs_simplejpeg
def test_what_is_broken_is_told_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = io.BytesIO()
    Image.fromarray(noise(64, 80)).save(whole, "JPEG")
    content = whole.getvalue()
    path = tmp_path / "cut.jpg"
    told = 0
    for length in (2, 3, 20, 200, len(content) // 2, len(content) - 40, len(content) - 2):
        path.write_bytes(content[:length])
        results = []
        for read in (read_image, lambda path: by_pillow(path, monkeypatch)):
            try:
                results.append(read(path).tobytes())
            except InputError as error:
                results.append(str(error))
        assert results[0] == results[1], length
        told += isinstance(results[0], str)
    assert told >= 5
