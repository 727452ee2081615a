"""Reading of picture files, to arrays (H, W, 3) uint8 RGB, as stored: color profiles are kept but not applied."""

from __future__ import annotations

import io
import logging
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from fastgan.data import jpeg, resize
from fastgan.data.failures import named_failures
from fastgan.data.formats import ALLOWED, READABLE
from fastgan.data.picture import MIN_SIDE, Picture, check_size, make_picture, on_white, one_line, to_arrays
from fastgan.data.resize import BYTES_PER_PIXEL
from fastgan.data.shards import ShardImage
from fastgan.errors import InputError
from fastgan.models.style_code import FEATURES_BYTES_PER_PIXEL, MIN_FEATURES_SIDE, SHORT_SIDE
from fastgan.utils.files import open_regular
from fastgan.utils.format import printable
from fastgan.utils.memory import check_budget, memory_budget

PathLike = str | os.PathLike[str]

_log = logging.getLogger("fastgan")

#: What the decoder itself takes a pixel, beside ``BYTES_PER_PIXEL``: WebP's keeps the picture and its canvas.
_DECODER_BYTES = {"WEBP": 8}
#: A progressive JPEG's coefficients, two bytes of each color, whatever size it is decoded at.
_PROGRESSIVE_BYTES = 6
#: A picture is reduced by whole pixels while it is decoded, to no less than this many times the size that is wanted;
#: the rest is left to the good filter.
_REDUCING_GAP = 4
_TILE_WIDTH_TAG, _TILE_LENGTH_TAG = 0x0142, 0x0143
#: Files of several frames that are named, before they are told no more.
_FRAMES_TOLD = 5
_told: set[str] = set()


@named_failures
def read_image(
    path: PathLike | ShardImage,
    *,
    reduce_to: int | None = None,
    enlarge_to: int | None = None,
    bytes_per_pixel: int = BYTES_PER_PIXEL,
) -> np.ndarray:
    """Read one picture as (H, W, 3) uint8 RGB, upright.

    EXIF orientation is applied, transparency is laid on white, gray, palette and CMYK pictures become RGB, deeper
    pictures are scaled (not clipped) to 8 bits, and of several frames or pages the first is read; a warning says so.

    Args:
        path: a file, or a picture in a shard.
        reduce_to: the short side comes out at most that long, in pixels; smaller pictures are left alone.
        enlarge_to: the short side comes out at least that long.
        bytes_per_pixel: what is made of the result takes, a pixel of it; counts against the memory budget.

    Raises:
        InputError: the file is missing, no regular file, no image, damaged, or cannot be read; it has a side under
            ``MIN_SIDE`` pixels; it or what is made of it is over the memory budget (``FASTGAN_MEMORY_BUDGET``). Sizes
            are checked in the header, before anything is decoded.
    """
    with _opened(path) as (file, name):
        pixels = _plain_jpeg(file, reduce_to)
        if pixels is not None:
            _check_made((pixels.shape[1], pixels.shape[0]), name, reduce_to, enlarge_to, bytes_per_pixel)
        else:
            image = _open(file, name)
            check_size(image.size, name, bytes_per_pixel=0)
            _check_made(image.size, name, reduce_to, enlarge_to, bytes_per_pixel)
            pixels = on_white(*_decode(image, name, reduce_to))
        if reduce_to is not None:
            pixels = resize.reduce_short_side(pixels, reduce_to)
        return pixels if enlarge_to is None else resize.enlarge_to(pixels, enlarge_to)


def read_for_features(path: PathLike | ShardImage, *, crop_size: int = 1) -> np.ndarray:
    """Read one picture at the size that its features are taken at: a style, or a photograph that is measured on.

    Errors as ``read_image``, also for a picture so long and thin that its features are over the memory budget, or it
    itself is, once it is enlarged for crops of ``crop_size`` pixels a side.
    """
    pixels = read_image(
        path, reduce_to=SHORT_SIDE, enlarge_to=MIN_FEATURES_SIDE, bytes_per_pixel=FEATURES_BYTES_PER_PIXEL
    )
    size = (pixels.shape[1], pixels.shape[0])
    resize.check_enlarged(size, resize.enlarged_size(size, crop_size), printable(path))
    return pixels


@named_failures
def read_picture(path: PathLike | ShardImage) -> Picture:
    """Read one picture at full size with its transparency, color profile and resolution. Errors as ``read_image``.

    Colors are those stored, not laid on anything, except under fully transparent pixels: what lies there is
    arbitrary, so it is made white.
    """
    with _opened(path) as (file, name):
        image = _open(file, name)
        return make_picture(image, *_decode(image, name, None))


def is_readable(path: PathLike | ShardImage) -> bool:
    """Whether ``read_for_features`` can read the file; decodes it to find out."""
    try:
        read_for_features(path)
    except InputError:
        return False
    return True


@contextmanager
def _opened(path: PathLike | ShardImage) -> Iterator[tuple[BinaryIO, str]]:
    """The picture's bytes and its name for messages."""
    source = path if isinstance(path, ShardImage) else Path(path)
    name = printable(source)
    with _open_member(source, name) if isinstance(source, ShardImage) else open_regular(source, name) as file:
        yield file, name


def _open_member(image: ShardImage, name: str) -> BinaryIO:
    check_budget(image.size, f"{name}: {image.size:,} bytes; reading it")
    try:
        return io.BytesIO(image.read())
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{name}: its shard is gone") from None
    except EOFError as error:
        raise InputError(f"{name}: the image is damaged or cut short ({error})") from None


def _plain_jpeg(file: BinaryIO, reduce_to: int | None) -> np.ndarray | None:
    """A JPEG with nothing unusual about it; None for all else, broken files too."""
    if not jpeg.AVAILABLE or file.read(len(jpeg.MAGIC)) != jpeg.MAGIC:
        return None
    budget = memory_budget()
    if file.seek(0, os.SEEK_END) > budget // 2:
        return None
    file.seek(0)
    # From twice the wanted size on, the decoder may do a part of the reduction.
    below = None if reduce_to is None else 2 * reduce_to
    most = budget // (BYTES_PER_PIXEL + _PROGRESSIVE_BYTES)
    return jpeg.decode(file.read(), below=below, max_pixels=most, min_side=MIN_SIDE)


def _open(file: BinaryIO, name: str) -> Image.Image:
    """Find the format and parse the header.

    ``Image.open`` is not used because it warns and raises by its own, process-wide pixel limit; the budget is ours.
    """
    file.seek(0)
    prefix = file.read(24)
    if prefix[:8] == b"\x89PNG\r\n\x1a\n" and prefix[12:16] == b"IHDR" and len(prefix) == 24:
        # Pillow looks through the chunks up to the pixels first, which a bare or hostile header may not have.
        check_size(struct.unpack(">II", prefix[16:24]), name)
    Image.init()
    reason = "nothing in it looks like one" if prefix else "it is empty"
    if prefix[4:8] == b"ftyp":
        reason = "it is HEIC, AVIF or a film"
    for kind in READABLE:
        factory, accept = Image.OPEN.get(kind, (None, None))
        verdict = factory is not None and (accept is None or accept(prefix[:16]))
        if factory is None or not verdict or isinstance(verdict, str):  # a str says why this Pillow lacks the format
            continue
        file.seek(0)
        try:
            return factory(file, "")
        except Exception as error:
            if _is_of_the_system(error):
                raise
            reason = one_line(error)
    raise InputError(f"{name}: not an image that can be read ({reason}); allowed are {ALLOWED} files")


def _decode(image: Image.Image, name: str, reduce_to: int | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The opened picture by ``to_arrays``, reduced on the way, but not below ``reduce_to``."""
    size = image.size
    check_size(size, name, bytes_per_pixel=0)
    try:
        _tell_frames(image, name)
        reduce_by = 1
        if reduce_to is not None:
            # The JPEG decoder can halve for free; twice the wanted size leaves the fine work to the good filter.
            width, height = resize.reduced_size(size, reduce_to)
            image.draft(None, (2 * width, 2 * height))
            reduce_by = max(1, min(image.size) // (_REDUCING_GAP * reduce_to))
        _check_cost(image, size, name)
        return to_arrays(image, reduce_by=reduce_by)
    except InputError as error:
        raise InputError(str(error) if str(error).startswith(name) else f"{name}: {error}") from None
    except MemoryError:
        raise InputError(f"{name}: not enough memory to decode {image.width} x {image.height} px") from None
    except Exception as error:
        if _is_of_the_system(error):
            raise
        # Damaged files make Pillow's decoders raise nearly anything: OSError, SyntaxError, struct.error, ...
        raise InputError(f"{name}: the image is damaged or cut short ({one_line(error)})") from None


def _is_of_the_system(error: Exception) -> bool:
    """Whether it says nothing of what is in the file; what Pillow raises has no number."""
    return isinstance(error, OSError) and error.errno is not None


def _check_cost(image: Image.Image, size: tuple[int, int], name: str) -> None:
    """Raise InputError where decoding takes more than the memory budget; ``size`` is that of the file."""
    needed = image.width * image.height * (BYTES_PER_PIXEL + _DECODER_BYTES.get(image.format or "", 0))
    if image.info.get("progressive"):
        needed += size[0] * size[1] * _PROGRESSIVE_BYTES
    check_budget(needed, f"{name}: too large, {size[0]} x {size[1]} px; reading it")
    tags = getattr(image, "tag_v2", {})
    across, down = (int(tags.get(tag, 0)) for tag in (_TILE_WIDTH_TAG, _TILE_LENGTH_TAG))
    check_budget(across * down * BYTES_PER_PIXEL, f"{name}: a tile of {across} x {down} px")


def _check_made(
    size: tuple[int, int], name: str, reduce_to: int | None, enlarge_to: int | None, bytes_per_pixel: int
) -> None:
    """Raise InputError where what is made of a picture of ``size`` takes more than the memory budget."""
    if reduce_to is None and enlarge_to is None:
        return
    target = size if reduce_to is None else resize.reduced_size(size, reduce_to)
    target = target if enlarge_to is None else resize.enlarged_size(target, enlarge_to)
    resize.check_enlarged(size, target, name, bytes_per_pixel=bytes_per_pixel)


def _tell_frames(image: Image.Image, name: str) -> None:
    """Warn, once a file, where only the first of several frames or pages is read."""
    if image.format == "MPO" or name in _told or len(_told) > _FRAMES_TOLD:
        return  # MPO: a phone's JPEG with a preview behind it
    try:
        has_more = bool(getattr(image, "is_animated", False))
    except Exception:  # damage behind the first frame
        has_more = False
    if not has_more:
        return
    _told.add(name)
    if len(_told) > _FRAMES_TOLD:
        _log.warning("more files hold several frames or pages; the first of each is used, and no more are named")
    else:
        _log.warning("%s: holds several frames or pages; the first is used", name)
