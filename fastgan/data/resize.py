"""Resizing (H, W, 3) uint8 pictures by Lanczos, antialiased, with torch's vector code where this torch has it."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate

from fastgan.utils.memory import check_budget

#: torch 2.12 and later; its pixels are Pillow's, but for one value in a hundred, which is 1 off (2 at most).
HAS_TORCH_LANCZOS = hasattr(torch.ops.aten, "_upsample_lanczos2d_aa")
#: What a pixel takes at most while it is decoded or resized: four bytes in Pillow, three in the array, one of opacity.
BYTES_PER_PIXEL = 8


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``image`` at ``size`` (width, height); itself where it has that size.

    What is reduced does not alias: the filter widens with the reduction.

    Raises:
        InputError: ``size`` is too large for the memory budget.
    """
    width, height = size
    if image.shape[:2] == (height, width):
        return image
    check_enlarged((image.shape[1], image.shape[0]), size, "a picture")
    pixels = np.ascontiguousarray(image)
    return _by_torch(pixels, height, width) if HAS_TORCH_LANCZOS else _by_pillow(pixels, height, width)


def reduce_short_side(image: np.ndarray, side: int) -> np.ndarray:
    """Make the short side of an (H, W, 3) uint8 image at most ``side`` pixels; smaller images come back as they are."""
    return resized(image, reduced_size((image.shape[1], image.shape[0]), side))


def enlarge_to(image: np.ndarray, side: int) -> np.ndarray:
    """Make the short side of an (H, W, 3) uint8 image at least ``side`` pixels; larger images come back as they are.

    Raises InputError as ``resized`` does.
    """
    return resized(image, enlarged_size((image.shape[1], image.shape[0]), side))


def fit_short_side(image: np.ndarray, side: int) -> np.ndarray:
    """Make the short side of an (H, W, 3) uint8 image exactly ``side`` pixels, keeping the aspect ratio.

    Raises InputError as ``resized`` does.
    """
    return resized(image, scaled_size((image.shape[1], image.shape[0]), side))


def check_enlarged(
    size: tuple[int, int], target: tuple[int, int], name: str, *, bytes_per_pixel: int = BYTES_PER_PIXEL
) -> None:
    """Raise InputError where the picture ``name`` of ``size`` is too large for the memory budget at ``target``.

    Both are (width, height); ``bytes_per_pixel`` is what is made of it takes at that size.
    """
    verb = "at" if target[0] * target[1] <= size[0] * size[1] else "enlarged to"
    needed = target[0] * target[1] * max(BYTES_PER_PIXEL, bytes_per_pixel)
    check_budget(needed, f"{name}: {size[0]} x {size[1]} px; {verb} {target[0]} x {target[1]} px it")


def scaled_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """``size`` with a short side of exactly ``side`` pixels."""
    if side < 1:
        raise ValueError(f"side must be at least 1 pixel, got {side}")
    width, height = size
    short = min(size)
    return max(side, round(width * side / short)), max(side, round(height * side / short))


def reduced_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """``size`` with a short side of at most ``side`` pixels."""
    return size if min(size) <= side else scaled_size(size, side)


def enlarged_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """``size`` with a short side of at least ``side`` pixels."""
    return size if min(size) >= side else scaled_size(size, side)


def _by_torch(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    if not pixels.flags.writeable:
        pixels = pixels.copy()  # torch warns of tensors over memory that must not be written
    # The batch's dimension goes in front first: so the strides tell torch channels_last, its fast way in and out.
    planes = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    result = interpolate(planes, (height, width), mode="lanczos", antialias=True)
    return np.ascontiguousarray(result[0].permute(1, 2, 0).numpy())


def _by_pillow(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
