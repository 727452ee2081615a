"""Fast decoding of plain JPEGs by simplejpeg, where installed, with the same pixels as Pillow's decoder."""

from __future__ import annotations

import numpy as np
from PIL import features

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

#: Pillow's wheels have it too. Without it, Pillow enlarges the colors in another way, and so gives other pixels.
AVAILABLE = simplejpeg is not None and features.check_feature("libjpeg_turbo")

MAGIC = b"\xff\xd8\xff"
#: Markers of possible EXIF or XMP orientation, which Pillow reads.
_ORIENTATION_MARKS = (b"Exif\0\0", b"tiff:Orientation")


def decode(content: bytes, *, below: int | None, max_pixels: int, min_side: int) -> np.ndarray | None:
    """(H, W, 3) uint8, the pixels that Pillow would give, or None for what is best left to Pillow.

    That is anything out of the ordinary: damage, colors other than YCbCr and gray, pictures to be turned, too large or
    too small, or with a short side of ``below`` pixels or more, which may be decoded at a reduced size.
    """
    if any(mark in content for mark in _ORIENTATION_MARKS):
        return None
    try:
        height, width, color_space, _ = simplejpeg.decode_jpeg_header(content)
        short = min(height, width)
        if height * width > max_pixels or short < min_side or (below is not None and short >= below):
            return None
        return simplejpeg.decode_jpeg(content, "RGB") if color_space in ("YCbCr", "Gray") else None
    except (ValueError, MemoryError):
        return None
