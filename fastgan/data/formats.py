"""The formats of picture files that are read and written, by the suffixes of their names."""

from __future__ import annotations

#: Others that Pillow knows stay out on purpose: EPS starts Ghostscript, for one.
FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".apng": "PNG",
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
IMAGE_SUFFIXES = frozenset(FORMATS)
#: Names of the formats in Pillow, in the order in which a file is tried.
READABLE = tuple(dict.fromkeys(FORMATS.values()))
#: The same for people.
ALLOWED = "JPEG, PNG, WebP, BMP, TIFF, GIF, PPM, PGM or PBM"

#: Formats that hold an opacity, a color profile, a resolution.
WITH_ALPHA = frozenset({"PNG", "WEBP", "TIFF"})
WITH_PROFILE = frozenset({"JPEG", "PNG", "WEBP", "TIFF"})
WITH_DPI = frozenset({"JPEG", "PNG", "TIFF", "BMP"})
