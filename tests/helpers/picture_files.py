"""Files that the data tests feed in: made by hand where the library under test must not be its own oracle."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from fastgan.data import ImageFolder


def readable(folder: ImageFolder) -> list[np.ndarray]:
    """Every picture of a folder that can be read, in order."""
    images = map(folder.get, range(len(folder)))
    return [image for image in images if image is not None]


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_header(width: int, height: int, depth: int = 8, color: int = 2) -> bytes:
    """Signature and IHDR of a PNG; color 0 is gray, 2 RGB."""
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))


def png_16_bit(pixels: np.ndarray) -> bytes:
    """A 16-bit PNG of (H, W) or (H, W, 3) uint16, every row unfiltered, as the PNG standard has it."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = png_header(width, height, 16, 0 if pixels.ndim == 2 else 2)
    return header + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


def png_gray(pixels: np.ndarray, depth: int, transparent: int) -> bytes:
    """A gray PNG of (H, W) values of ``depth`` bits (2, 4, 8 or 16), of which one stands for transparent."""
    height, width = pixels.shape
    bits = (pixels.astype(np.int64)[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits.reshape(height, -1))
    key = png_chunk(b"tRNS", struct.pack(">H", transparent))
    content = png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return png_header(width, height, depth, 0) + key + content


def tiff_with(content: bytes, changes: dict[int, tuple[int, int]]) -> bytes:
    """A TIFF of one page in which each old tag has become a new tag of one short number: ``{old: (new, value)}``."""
    (start,) = struct.unpack_from("<I", content, 4)
    changed = bytearray(content)
    for place in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", content, start)[0], 12):
        tag = struct.unpack_from("<H", content, place)[0]
        if tag in changes:
            new, value = changes.pop(tag)
            rest = content[place + 2 : place + 12] if value < 0 else struct.pack("<HIHH", 3, 1, value, 0)
            changed[place : place + 12] = struct.pack("<H", new) + rest
    assert not changes
    return bytes(changed)


def rgb_profile() -> bytes:
    """An ICC profile of RGB."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = struct.pack(">6H", 2026, 1, 1, 0, 0, 0)  # the date, which would tell two of them apart
    return bytes(profile)


def noise(height: int = 40, width: int = 56, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """Slow waves, different in each channel: JPEG and resizing leave them nearly as they are."""
    y, x = (np.arange(height)[:, None] + 0.5) / height, (np.arange(width) + 0.5) / width  # the pixels' centers
    waves = [np.sin(5 * x + 2 * y), np.cos(4 * y - x), np.sin(3 * x * y + 1)]
    return np.rint(127.5 + 120 * np.stack(waves, -1)).astype(np.uint8)


def coordinates(height: int, width: int, number: int) -> np.ndarray:
    """A picture whose every pixel says where it is: (x, y, number of the picture)."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x, y, np.full_like(x, number)], -1).astype(np.uint8)


def save(pixels: np.ndarray, path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path
