"""Augmentation for both inputs of the discriminator, with gradients (SPEC S15; Zhao et al. 2020, DiffAugment)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

AUGMENTATIONS = ("color", "translation", "cutout")


def augment(images: Tensor, kinds: Sequence[str], rng: torch.Generator) -> Tensor:
    """Change every image in its own way, so that the discriminator cannot learn a small data set by heart.

    In the order given, with parameters drawn uniformly for each image:

    - `color`: brightness shifted by -0.5 to 0.5, saturation times 0 to 2, contrast times 0.5 to 1.5
    - `translation`: by whole pixels, up to 1/8 of a side; what comes in is 0, the mid gray
    - `cutout`: a patch of half of each side set to 0, its center anywhere, so that the edge may cut it

    Args:
        images: floating (N, C, H, W) in [-1, 1]; results may leave that range.
        kinds: of `AUGMENTATIONS`; with none, `images` itself is returned.
        rng: of the CPU; how much is drawn depends on `kinds` and N alone.

    Returns:
        A tensor as `images`, differentiable to any order in them.

    Raises:
        ValueError: an unknown kind, or images that are not floating (N, C, H, W).
    """
    for kind in kinds:
        if kind not in AUGMENTATIONS:
            raise ValueError(f"augmentations are {', '.join(map(repr, AUGMENTATIONS))}, got {kind!r}")
    if images.dim() != 4 or not images.is_floating_point():
        raise ValueError(f"images must be floating (N, C, H, W), got {images.dtype} {tuple(images.shape)}")
    for kind in kinds:
        change, numbers = _CHANGES[kind]
        drawn = torch.rand(numbers, len(images), generator=rng, dtype=torch.float64, device="cpu")
        images = change(images, drawn)
    return images


def _color(images: Tensor, drawn: Tensor) -> Tensor:
    shift, saturation, contrast = drawn.to(images.device, images.dtype)[:, :, None, None, None]
    images = images + (shift - 0.5)
    gray = images.mean(1, keepdim=True)
    images = gray + (images - gray) * (2 * saturation)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (contrast + 0.5)


def _translation(images: Tensor, drawn: Tensor) -> Tensor:
    for axis, uniform in zip((2, 3), drawn, strict=True):
        side = images.shape[axis]
        most = side // 8
        offset = (_integers(uniform, 2 * most + 1) - most).to(images.device)
        source = torch.arange(side, device=images.device) - offset[:, None]
        inside = (source >= 0) & (source < side)
        shape = (len(images), 1, side, 1) if axis == 2 else (len(images), 1, 1, side)
        # Round the edge and then blanked: as each pixel is read once, the backward adds nothing up in varying order.
        rolled = images.gather(axis, (source % side).view(shape).expand(images.shape))
        images = rolled * inside.view(shape)
    return images


def _cutout(images: Tensor, drawn: Tensor) -> Tensor:
    within = []
    for side, uniform in zip(images.shape[2:], drawn, strict=True):
        patch = side // 2
        # An even patch has its center between pixels, of which there is one place more.
        start = (_integers(uniform, side + 1 - patch % 2) - patch // 2).to(images.device)[:, None]
        position = torch.arange(side, device=images.device)
        within.append((position >= start) & (position < start + patch))
    down, across = within
    return images * ~(down[:, None, :, None] & across[:, None, None, :])


def _integers(uniform: Tensor, count: int) -> Tensor:
    return (uniform * count).long().clamp_max(count - 1)


#: Each with how many numbers it takes an image.
_CHANGES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], int]] = {
    "color": (_color, 3),
    "translation": (_translation, 2),
    "cutout": (_cutout, 2),
}
