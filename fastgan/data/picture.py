"""Pictures as arrays: from Pillow's images of any mode, by one rule for files and for images in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from fastgan.data.resize import BYTES_PER_PIXEL
from fastgan.errors import InputError
from fastgan.utils.format import printable
from fastgan.utils.memory import check_budget

MIN_SIDE = 11

_ORIENTATION_TAG, _SAMPLE_FORMAT_TAG = 0x0112, 0x0153
#: The largest value of 32 bits without a sign.
_UNSIGNED = 2.0**32 - 1
#: Pixels that are converted at a time, so that no second copy of a large picture is made at another depth.
_STRIP_PIXELS = 1 << 22
_MAX_PROFILE = 8 << 20
#: Samples of fewer bits, which Pillow spreads over 0 to 255, but not the transparent one among them.
_SPREAD = {"L;2": 85, "L;4": 17}


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture and what is kept of its file.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, upright; white where it is fully transparent.
        alpha: (H, W) uint8, its opacity; None for a picture without transparency.
        icc_profile: the color profile that ``pixels`` are meant in; None for sRGB, or where the file does not say.
        dpi: the resolution across and down, pixels an inch; None where the file does not say.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    icc_profile: bytes | None = None
    dpi: tuple[float, float] | None = None

    def to_pil(self) -> Image.Image:
        """An RGB image of Pillow, or RGBA where there is transparency, with profile and resolution in ``info``."""
        image = Image.fromarray(np.ascontiguousarray(self.pixels))
        if self.alpha is not None:
            image.putalpha(Image.fromarray(np.ascontiguousarray(self.alpha)))
        if self.icc_profile is not None:
            image.info["icc_profile"] = self.icc_profile
        if self.dpi is not None:
            image.info["dpi"] = self.dpi
        return image


def from_pil(image: Image.Image) -> np.ndarray:
    """A Pillow image as (H, W, 3) uint8 RGB, by the rules of ``read_image``: upright, on white, 8 bits.

    Raises:
        InputError: as ``read_image``, for an image that was opened and is decoded here.
    """
    return on_white(*_arrays_of(image))


def picture_from_pil(image: Image.Image) -> Picture:
    """A Pillow image with all that ``read_picture`` keeps of a file. Errors as ``from_pil``."""
    pixels, alpha = _arrays_of(image)
    return make_picture(image, pixels, alpha)


def make_picture(image: Image.Image, pixels: np.ndarray, alpha: np.ndarray | None) -> Picture:
    """The picture of what ``to_arrays`` gave for ``image``."""
    if alpha is not None:
        pixels[alpha == 0] = 255  # what lies there is arbitrary
    return Picture(pixels, alpha, _icc_profile(image), _dpi(image))


def to_arrays(image: Image.Image, *, reduce_by: int = 1) -> tuple[np.ndarray, np.ndarray | None]:
    """Decode an image: RGB (H, W, 3) and opacity (H, W) or None, uint8, upright.

    ``reduce_by`` makes one pixel of that many by that many; what is transparent is laid on white before that.

    Raises:
        InputError: colors that have no way to RGB.
        Exception: nearly anything, from Pillow's decoders, for damaged files.
    """
    spread = _SPREAD.get(_raw_mode(image), 1)
    is_deep = _raw_mode(image) == "RGB;16B"
    image.load()
    # Read after loading: some formats turn the picture themselves while they load, and drop the tag.
    orientation = _orientation(image)
    key = image.info.get("transparency")
    if isinstance(key, int):
        key *= spread
    elif isinstance(key, tuple) and (is_deep or max(key) > 255):
        key = tuple(value >> 8 for value in key)  # as the pixels are
    deepest = _deepest(image)
    pixels = np.empty((-(-image.height // reduce_by), -(-image.width // reduce_by), 3), np.uint8)
    alpha: np.ndarray | None = None
    for top, strip in _strips(image, reduce_by):
        color, opacity = _split(strip, key, deepest)
        if reduce_by > 1:
            color = (color if opacity is None else _laid_on_white(color, opacity)).reduce(reduce_by)
            opacity = None
        place = slice(top // reduce_by, top // reduce_by + color.height)
        pixels[place] = np.asarray(color)
        if opacity is not None:
            alpha = np.empty(pixels.shape[:2], np.uint8) if alpha is None else alpha
            alpha[place] = np.asarray(opacity)
    return _upright(pixels, orientation), None if alpha is None else _upright(alpha, orientation)


def on_white(pixels: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """``pixels`` (H, W, 3) laid on white by their opacity (H, W), both uint8."""
    if alpha is None:
        return pixels
    return np.array(_laid_on_white(Image.fromarray(pixels), Image.fromarray(alpha)))


def check_size(size: tuple[int, int], name: str, *, bytes_per_pixel: int = BYTES_PER_PIXEL) -> None:
    """Raise InputError for a picture of (width, height) with too short a side, or too large for the memory budget."""
    width, height = size
    if min(width, height) < MIN_SIDE:
        raise InputError(f"{name}: too small, {width} x {height} px; each side must have at least {MIN_SIDE} px")
    check_budget(width * height * bytes_per_pixel, f"{name}: too large, {width} x {height} px; reading it")


def one_line(error: BaseException) -> str:
    """The message of an error as one line, or its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def _arrays_of(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    name = printable(getattr(image, "filename", "") or "the image")
    check_size(image.size, name)
    try:
        return to_arrays(image)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    except MemoryError:
        raise InputError(f"{name}: not enough memory to decode {image.width} x {image.height} px") from None
    except Exception as error:
        raise InputError(f"{name}: the image is damaged or cut short ({one_line(error)})") from None


def _raw_mode(image: Image.Image) -> str:
    """The samples' layout in a PNG that was opened and not decoded yet; otherwise empty."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    return arguments if isinstance(arguments, str) else ""


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # a damaged EXIF block is no reason to refuse the pixels
        return 1


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (H, W) or (H, W, 3) by a value of EXIF's orientation; an unknown one leaves it as it is."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _deepest(image: Image.Image) -> float:
    """The value that becomes 255 in a deep image; 0 for others."""
    if image.mode == "F":
        # Over all strips, since the largest value says how all are meant.
        values = (np.asarray(strip) for _, strip in _strips(image))
        largest = max(float(np.max(part, where=np.isfinite(part), initial=0.0)) for part in values)
        return 1.0 if largest <= 1.0 else 255.0
    if image.mode == "I":
        extrema: Any = image.getextrema()
        if extrema[0] < 0 and _is_unsigned(image):
            return _UNSIGNED
        return 65535.0 if extrema[1] <= 65535 else 2.0**31 - 1
    return 65535.0 if _is_deep(image) else 0.0


def _is_unsigned(image: Image.Image) -> bool:
    """Whether the file is a TIFF of unsigned integers, which Pillow gives as signed ones of the same bits."""
    tags = getattr(image, "tag_v2", {})
    return bool(tags) and tags.get(_SAMPLE_FORMAT_TAG, (1,))[0] == 1


def _strips(image: Image.Image, multiple: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """The top row of each strip and the strip, of all its rows; their heights are multiples but for the last one."""
    width, height = image.size
    rows = max(1, _STRIP_PIXELS // width // multiple) * multiple
    for top in range(0, height, rows):
        yield top, image if rows >= height else image.crop((0, top, width, min(height, top + rows)))


def _split(image: Image.Image, key: object, deepest: float) -> tuple[Image.Image, Image.Image | None]:
    """The colors of a decoded image as RGB and its opacity as L, or None.

    ``key`` is the value that stands for transparent, ``deepest`` as ``_deepest`` gives it.
    """
    if _is_deep(image):
        values = np.asarray(image)
        if deepest == _UNSIGNED:
            values = values.view(np.uint32)
        color = Image.fromarray(_to_8_bits(values, deepest)).convert("RGB")
        if not isinstance(key, int):
            return color, None
        return color, Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))
    try:
        if not image.has_transparency_data:
            return image if image.mode == "RGB" else image.convert("RGB"), None
        if key is not None and key != image.info.get("transparency"):
            image = image.copy()  # the caller's image stays as it is
            image.info["transparency"] = key
        full = image.convert("RGBA")
    except ValueError:
        raise InputError(f"its colors ({image.mode}) have no way to RGB") from None
    return full.convert("RGB"), full.getchannel("A")


def _to_8_bits(values: np.ndarray, deepest: float) -> np.ndarray:
    """Scale one deep channel to uint8. Pillow's own conversion clips at 255, which turns nearly all of it white."""
    if values.dtype.kind == "f":
        finite = np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=0.0)
        return np.rint(np.clip(finite * (255.0 / deepest), 0, 255)).astype(np.uint8)
    largest = int(deepest)
    clipped = np.clip(values, 0, largest).astype(np.uint64)
    return ((clipped * 255 + largest // 2) // largest).astype(np.uint8)


def _laid_on_white(color: Image.Image, opacity: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", color.size, (255, 255, 255))
    canvas.paste(color, mask=opacity)
    return canvas


def _icc_profile(image: Image.Image) -> bytes | None:
    """The profile where it is one of RGB: those of gray and of ink say nothing of the RGB that was made of them."""
    profile = image.info.get("icc_profile")
    is_rgb = isinstance(profile, bytes) and profile[16:20] == b"RGB " and len(profile) <= _MAX_PROFILE
    return profile if is_rgb else None


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    try:
        across, down = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    # Pillow says 1 where a TIFF says nothing.
    if not all(math.isfinite(value) and 1 < value <= 65535 for value in (across, down)):
        return None
    return (down, across) if _orientation(image) in (5, 6, 7, 8) else (across, down)
