"""Writing of picture files, each whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from fastgan.data.decode import PathLike
from fastgan.data.formats import FORMATS, IMAGE_SUFFIXES, WITH_ALPHA, WITH_DPI, WITH_PROFILE
from fastgan.data.picture import on_white
from fastgan.errors import InputError
from fastgan.utils.files import atomic_write
from fastgan.utils.format import printable

_OPTIONS: dict[str, dict[str, object]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
    "TIFF": {"compression": "tiff_lzw"},
}


def write_image(
    image: np.ndarray,
    path: PathLike,
    *,
    alpha: np.ndarray | None = None,
    icc_profile: bytes | None = None,
    dpi: tuple[float, float] | None = None,
) -> None:
    """Write (H, W, 3) uint8 ``image`` in the format that the suffix of ``path`` names, whole or not at all.

    JPEG is written at quality 95 without chroma subsampling. An existing file is replaced in one step; after a
    failure it is as it was and nothing is left beside it.

    Args:
        image: the colors.
        path: the file.
        alpha: (H, W) uint8, the opacity, kept by PNG, WebP and TIFF; other formats get the picture laid on white.
        icc_profile: the color profile of ``image``, kept by JPEG, PNG, WebP and TIFF.
        dpi: the resolution across and down, kept by JPEG, PNG, TIFF and BMP.

    Raises:
        InputError: the suffix names no known format, the format cannot hold the picture, or the place cannot be
            written.
        ValueError: the arrays have another shape or type.
    """
    target = Path(path)
    kind = FORMATS.get(target.suffix.lower())
    if kind is None:
        allowed = " ".join(sorted(IMAGE_SUFFIXES))
        suffix = printable(target.suffix) if target.suffix else "a file without suffix"
        raise InputError(f"{printable(target)}: cannot write {suffix}, only {allowed}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
    if alpha is not None and (alpha.dtype != np.uint8 or alpha.shape != image.shape[:2]):
        raise ValueError(f"alpha must be {image.shape[:2]} uint8, got {alpha.shape} {alpha.dtype}")
    image = np.ascontiguousarray(image)
    options = dict(_OPTIONS.get(kind, {}))
    if icc_profile is not None and kind in WITH_PROFILE:
        options["icc_profile"] = icc_profile
    if dpi is not None and kind in WITH_DPI:
        options["dpi"] = dpi
    encoded = io.BytesIO()
    try:
        if alpha is None or kind in WITH_ALPHA:
            picture = Image.fromarray(image)
        else:
            picture = Image.fromarray(on_white(image, np.ascontiguousarray(alpha)))
        if alpha is not None and kind in WITH_ALPHA:
            picture.putalpha(Image.fromarray(np.ascontiguousarray(alpha)))
        picture.save(encoded, format=kind, **options)
    except (OSError, ValueError, MemoryError) as error:
        what = f"{printable(target)}: a picture of {image.shape[1]} x {image.shape[0]} px"
        raise InputError(f"{what} cannot be written as {kind} ({str(error) or 'not enough memory'})") from None
    atomic_write(target, lambda file: file.write(encoded.getbuffer()), durable=False)
