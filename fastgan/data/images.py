"""Image files: decoding to RGB arrays, resizing, and atomic writing.

Everything here works on NumPy arrays of shape (H, W, 3), uint8, sRGB as stored (color profiles are not applied).
"""

from __future__ import annotations

import io
import os
import stat
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from fastgan.data import jpeg
from fastgan.data.failures import display_name as _name
from fastgan.data.failures import is_transient, named_failures
from fastgan.data.resize import reduced_size, resized, scaled_size
from fastgan.data.shards import ShardImage
from fastgan.errors import InputError
from fastgan.utils.files import atomic_write

# The file formats read and written. Others that Pillow knows stay out on purpose: EPS starts Ghostscript, for one.
_FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".gif": "GIF",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pbm": "PPM",
    ".pnm": "PPM",
}
IMAGE_SUFFIXES = frozenset(_FORMATS)
_READABLE = tuple(dict.fromkeys(_FORMATS.values()))
_ALLOWED = "JPEG, PNG, WebP, BMP, TIFF, GIF or PPM"
_SAVE: dict[str, dict[str, object]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
    "TIFF": {"compression": "tiff_lzw"},
}
_WITH_ALPHA = frozenset({"PNG", "WEBP", "TIFF"})

MAX_PIXELS = 250_000_000
MIN_SIDE = 11

_ORIENTATION_TAG = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

PathLike = str | os.PathLike[str]


@named_failures
def read_image(path: PathLike | ShardImage, *, reduce_to: int | None = None) -> np.ndarray:
    """Read one picture as (H, W, 3) uint8 RGB, upright.

    EXIF orientation is applied, transparency is laid on white, gray, palette and CMYK pictures become RGB, and deeper
    pictures are scaled (not clipped) to 8 bits. With ``reduce_to``, in pixels, the short side comes out at most that
    long; smaller pictures are left alone.

    Raises:
        InputError: the file is missing, a folder, no image, damaged, over ``MAX_PIXELS`` pixels, or has a side
            under ``MIN_SIDE`` pixels. Sizes are checked in the header, before anything is decoded.
    """
    pixels = _read_jpeg(path, reduce_to) if jpeg.AVAILABLE else None
    if pixels is None:
        rgb, alpha = _read(path, reduce_to)
        pixels = np.array(rgb if alpha is None else _on_white(rgb, alpha))
    return pixels if reduce_to is None else reduce_short_side(pixels, reduce_to)


@named_failures
def read_picture(path: PathLike | ShardImage) -> tuple[np.ndarray, np.ndarray | None]:
    """Read one picture at full size with its transparency: (H, W, 3) and (H, W) uint8, None where the file has none.

    Colors are those stored, not laid on anything, except under fully transparent pixels: what lies there is
    arbitrary, so it is made white. Errors as ``read_image``.
    """
    rgb, alpha = _read(path, None)
    pixels = np.array(rgb)
    if alpha is None:
        return pixels, None
    opacity = np.array(alpha)
    pixels[opacity == 0] = 255
    return pixels, opacity


def is_readable(path: PathLike | ShardImage) -> bool:
    """Whether ``read_image`` can read the file; decodes it to find out."""
    try:
        read_image(path)
    except InputError:
        return False
    return True


def from_pil(image: Image.Image) -> np.ndarray:
    """A Pillow image as (H, W, 3) uint8 RGB, by the rules of ``read_image`` (sizes are not checked)."""
    rgb, alpha = _split(image)
    return np.array(rgb if alpha is None else _on_white(rgb, alpha))


def reduce_short_side(image: np.ndarray, side: int) -> np.ndarray:
    """Make the short side of an (H, W, 3) uint8 image at most ``side`` pixels; smaller images come back as they are."""
    return resized(image, reduced_size((image.shape[1], image.shape[0]), side))


def enlarge_to(image: np.ndarray, side: int) -> np.ndarray:
    """Make the short side of an (H, W, 3) uint8 image at least ``side`` pixels; larger images come back as they are."""
    width, height = image.shape[1], image.shape[0]
    return image if min(width, height) >= side else fit_short_side(image, side)


def fit_short_side(image: np.ndarray, side: int) -> np.ndarray:
    """Make the short side of an (H, W, 3) uint8 image exactly ``side`` pixels, keeping the aspect ratio."""
    return resized(image, scaled_size((image.shape[1], image.shape[0]), side))


def write_image(image: np.ndarray, path: PathLike, *, alpha: np.ndarray | None = None) -> None:
    """Write (H, W, 3) uint8 ``image`` in the format that the suffix of ``path`` names, whole or not at all.

    ``alpha``, (H, W) uint8, is kept by PNG, WebP and TIFF; other formats get the picture laid on white. JPEG is
    written at quality 95 without chroma subsampling. An existing file is replaced in one step; after a failure it
    is as it was and nothing is left beside it.

    Raises:
        InputError: the suffix names no known format, the format cannot hold the picture, or the place cannot be
            written.
        ValueError: the arrays have another shape or type.
    """
    target = Path(path)
    kind = _FORMATS.get(target.suffix.lower())
    if kind is None:
        allowed = " ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(f"{_name(target)}: cannot write {target.suffix or 'a file without suffix'}, only {allowed}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
    if alpha is not None and (alpha.dtype != np.uint8 or alpha.shape != image.shape[:2]):
        raise ValueError(f"alpha must be {image.shape[:2]} uint8, got {alpha.shape} {alpha.dtype}")
    picture = Image.fromarray(np.ascontiguousarray(image))
    if alpha is not None:
        mask = Image.fromarray(np.ascontiguousarray(alpha))
        if kind in _WITH_ALPHA:
            picture.putalpha(mask)
        else:
            picture = _on_white(picture, mask)
    encoded = io.BytesIO()
    try:
        picture.save(encoded, format=kind, **_SAVE.get(kind, {}))
    except (OSError, ValueError) as error:
        size = f"{picture.width} x {picture.height}"
        raise InputError(f"{_name(target)}: a picture of {size} px cannot be written as {kind} ({error})") from None
    atomic_write(target, lambda file: file.write(encoded.getbuffer()), durable=False)


def _read_jpeg(path: PathLike | ShardImage, reduce_to: int | None) -> np.ndarray | None:
    """A JPEG with nothing unusual about it; None for all else, broken files too."""
    source = path if isinstance(path, ShardImage) else Path(path)
    name = _name(source)
    try:
        with _open_member(source, name) if isinstance(source, ShardImage) else _open_file(source, name) as file:
            content = file.read(len(jpeg.MAGIC))
            if content != jpeg.MAGIC:
                return None
            content += file.read()
    except (InputError, OSError, MemoryError):
        return None
    # From twice the wanted size on, the decoder may do a part of the reduction.
    below = None if reduce_to is None else 2 * reduce_to
    return jpeg.decode(content, below=below, max_pixels=MAX_PIXELS, min_side=MIN_SIDE)


def _read(path: PathLike | ShardImage, reduce_to: int | None) -> tuple[Image.Image, Image.Image | None]:
    source = path if isinstance(path, ShardImage) else Path(path)
    name = _name(source)
    with _open_member(source, name) if isinstance(source, ShardImage) else _open_file(source, name) as file:
        image = _open(file, name)
        try:
            _check_size(image.size, name)
            if reduce_to is not None:
                # The JPEG decoder can halve for free; twice the wanted size leaves the fine work to the good filter.
                target = reduced_size(image.size, reduce_to)
                image.draft(None, (2 * target[0], 2 * target[1]))
            image.load()
            # Read after loading: some formats turn the picture themselves while they load, and drop the tag.
            turn = _TRANSPOSE.get(_orientation(image))
            rgb, alpha = _split(image)
        except InputError:
            raise
        except MemoryError:
            raise InputError(f"{name}: not enough memory to decode {image.width} x {image.height} px") from None
        except Exception as error:
            # Damaged files make Pillow's decoders raise nearly anything: OSError, SyntaxError, struct.error, ...
            raise InputError(f"{name}: the image is damaged or cut short ({_one_line(error)})") from None
    if turn is not None:
        rgb = rgb.transpose(turn)
        alpha = alpha.transpose(turn) if alpha is not None else None
    return rgb, alpha


def _open_file(path: Path, name: str) -> BinaryIO:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{name}: is a folder, not an image")
        if not stat.S_ISREG(mode):  # opening a pipe would wait for ever
            raise InputError(f"{name}: is not a regular file")
        return open(path, "rb")
    except OSError as error:
        raise InputError(f"{name}: {_reason(error, 'no such file')}") from None


def _open_member(image: ShardImage, name: str) -> BinaryIO:
    try:
        return io.BytesIO(image.read())
    except OSError as error:
        raise InputError(f"{name}: {_reason(error, 'its shard is gone')}") from None
    except EOFError as error:
        raise InputError(f"{name}: the image is damaged or cut short ({error})") from None
    except MemoryError:
        raise InputError(f"{name}: not enough memory to read {image.size:,} bytes") from None


def _open(file: BinaryIO, name: str) -> Image.Image:
    """Find the format and parse the header.

    ``Image.open`` is not used because it warns and raises by its own, process-wide pixel limit; this module has one.
    """
    prefix = file.read(24)
    if prefix[:8] == b"\x89PNG\r\n\x1a\n" and prefix[12:16] == b"IHDR" and len(prefix) == 24:
        # Pillow looks through the chunks up to the pixels first, which a bare or hostile header may not have.
        _check_size(struct.unpack(">II", prefix[16:24]), name)
    Image.init()
    reason = "nothing in it looks like one" if prefix else "it is empty"
    for kind in _READABLE:
        factory, accept = Image.OPEN.get(kind, (None, None))
        verdict = factory is not None and (accept is None or accept(prefix[:16]))
        if factory is None or not verdict or isinstance(verdict, str):  # a str says why this Pillow lacks the format
            continue
        file.seek(0)
        try:
            return factory(file, "")
        except Exception as error:
            if is_transient(error):  # says nothing of what is in the file
                raise
            reason = _one_line(error)
    raise InputError(f"{name}: not an image that can be read ({reason}); allowed are {_ALLOWED} files")


def _check_size(size: tuple[int, ...], name: str) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise InputError(f"{name}: too large, {width} x {height} px; at most {MAX_PIXELS:,} pixels are allowed")
    if min(width, height) < MIN_SIDE:
        raise InputError(f"{name}: too small, {width} x {height} px; each side must have at least {MIN_SIDE} px")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # a damaged EXIF block is no reason to refuse the pixels
        return 1


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colors as an RGB image and the opacity as an L image, or None."""
    if image.mode == "I" or image.mode == "F" or image.mode.startswith("I;16"):
        return Image.fromarray(_to_8_bits(np.asarray(image))).convert("RGB"), None
    if image.has_transparency_data:
        full = image.convert("RGBA")
        return full.convert("RGB"), full.getchannel("A")
    return image if image.mode == "RGB" else image.convert("RGB"), None


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """Scale one deep channel to uint8: integers from [0, 65535], floats from [0, 1], or [0, 255] if any exceeds 1.

    Pillow's own conversion clips at 255, which turns nearly every 16-bit picture white.
    """
    if values.dtype.kind == "f":
        finite = np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=0.0)
        scale = 255.0 if float(finite.max(initial=0.0)) <= 1.0 else 1.0
        return np.rint(np.clip(finite * scale, 0, 255)).astype(np.uint8)
    clipped = np.clip(values, 0, 65535).astype(np.uint32)
    return ((clipped * 255 + 32767) // 65535).astype(np.uint8)


def _on_white(rgb: Image.Image, alpha: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", rgb.size, (255, 255, 255))
    canvas.paste(rgb, mask=alpha)
    return canvas


def _reason(error: OSError, missing: str) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return missing
    return error.strerror or _one_line(error)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
