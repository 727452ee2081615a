"""Decoding plain JPEGs by simplejpeg where it is installed: the pixels of Pillow's decoder, sooner and with no copy."""

from __future__ import annotations

import numpy as np
from PIL import features

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

#: Pillow's wheels have it too. Without it, Pillow enlarges the colours in another way, and so gives other pixels.
AVAILABLE = simplejpeg is not None and features.check_feature("libjpeg_turbo")

MAGIC = b"\xff\xd8\xff"
#: What may say that a picture is to be turned: Pillow reads that.
_TURNED = (b"Exif\0\0", b"tiff:Orientation")


def decode(content: bytes, *, below: int | None, max_pixels: int, min_side: int) -> np.ndarray | None:
    """(H, W, 3) uint8, the pixels that Pillow would give, or None for what is best left to Pillow.

    That is anything out of the ordinary: damage, colours other than YCbCr and grey, pictures to be turned, too large or
    too small, or with a short side of ``below`` pixels or more, which may be decoded at a reduced size.
    """
    if any(mark in content for mark in _TURNED):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        short = min(height, width)
        if height * width > max_pixels or short < min_side or (below is not None and short >= below):
            return None
        return simplejpeg.decode_jpeg(content, "RGB") if colours in ("YCbCr", "Gray") else None
    except (ValueError, MemoryError):
        return None
