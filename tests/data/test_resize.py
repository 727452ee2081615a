"""Resizing: sizes, no aliasing, the pixels of Pillow and scikit-image, and nothing beyond the memory budget."""

import importlib

import numpy as np
import pytest
from helpers.machine import needs
from helpers.picture_files import noise, smooth

from fastgan.data import enlarge_to, fit_short_side, reduce_short_side, resize
from fastgan.errors import InputError
from fastgan.utils.memory import BUDGET_VARIABLE

SIZES = [((480, 640), 384), ((427, 640), 384), ((3000, 2000), 384), ((61, 47), 80), ((11, 900), 16)]


@needs("torch's Lanczos")
@pytest.mark.parametrize(("size", "side"), SIZES)
def test_resizing_gives_the_pixels_of_pillow(size: tuple[int, int], side: int) -> None:
    for picture in (noise(*size), smooth(*size)):
        width, height = resize.scaled_size((size[1], size[0]), side)
        ours = resize.resized(picture, (width, height))
        theirs = resize._by_pillow(picture, height, width)
        off = np.abs(ours.astype(int) - theirs)
        # Both round to 8 bits after the rows and after the columns: 1 level each. Torch's weights have 15 bits: sums of
        # six times 255 are off by 6 * 255 / 2**15 = 0.05 levels at most, and so few values round otherwise.
        assert ours.shape == theirs.shape and ours.flags.c_contiguous and ours.flags.writeable
        assert off.max() <= 2 and (off > 0).mean() < 0.05 and (off > 1).mean() < 0.05**2


def test_resizing_takes_any_array(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = noise(60, 80)
    whole.flags.writeable = False
    part = whole[3:43, 70:10:-1]
    expected = resize.resized(np.array(part), (30, 20))
    assert np.array_equal(resize.resized(part, (30, 20)), expected)
    assert resize.resized(part, (60, 40)) is part
    monkeypatch.setattr(resize, "HAS_TORCH_LANCZOS", False)
    assert np.abs(resize.resized(part, (30, 20)).astype(int) - expected).max() <= 2


def test_reducing_does_not_alias() -> None:
    board = np.indices((256, 256)).sum(0) % 2 * 255
    stripes = np.repeat(board[..., None], 3, -1).astype(np.uint8)
    inner = reduce_short_side(stripes, 50)[4:-4, 4:-4].astype(int)
    assert np.abs(inner - 127.5).max() <= 4  # one that aliases is 127.5 off; Lanczos leaves some hundredths of that


def test_resizing_agrees_with_scikit_image() -> None:
    transform = importlib.import_module("skimage.transform")
    image = smooth(120, 200)
    theirs = transform.resize(image, (60, 100), order=3, anti_aliasing=True) * 255
    # Roundings are 0.25 off in the mean. The slopes are up to 120 * 5 / 100 across and 120 * 4 / 60 down: half a pixel
    # beside its place it would be off by more than 2.
    assert np.abs(fit_short_side(image, 60) - theirs).mean() <= 1


def test_helpers_of_size() -> None:
    image = noise(30, 50)
    assert fit_short_side(image, 60).shape == (60, 100, 3)
    assert fit_short_side(image, 15).shape == (15, 25, 3)
    assert enlarge_to(image, 60).shape == (60, 100, 3)
    assert enlarge_to(image, 30) is image
    assert reduce_short_side(image, 60) is image
    assert fit_short_side(noise(8, 400), 8).shape == (8, 400, 3)
    with pytest.raises(ValueError, match="side"):
        fit_short_side(image, 0)


def test_a_thin_picture_is_not_enlarged_beyond_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    thin = noise(12, 6000)
    monkeypatch.setenv(BUDGET_VARIABLE, "10M")
    for resizing in (enlarge_to, fit_short_side):
        with pytest.raises(InputError, match=r"6000 x 12 px; enlarged to 128000 x 256 px it takes 250\.0 MiB"):
            resizing(thin, 256)
    assert enlarge_to(thin, 12) is thin
    assert reduce_short_side(thin, 6).shape == (6, 3000, 3)


def test_the_default_budget_refuses_what_a_strip_becomes() -> None:
    """12 x 60,000 px in 6.5 kB would become a picture of 0.98 GB."""
    strip = np.broadcast_to(np.uint8(0), (12, 60_000, 3))
    with pytest.raises(InputError, match=BUDGET_VARIABLE):
        enlarge_to(strip, 256)
