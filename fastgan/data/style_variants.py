"""More styles out of a few: crops, recolorings and blends of pictures, and patterns made by a program."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fastgan.data.resize import resized

#: Side of a variant, pixels.
SIDE = 256
#: Smallest side of a crop, as a share of the picture's short side.
_MIN_CROP = 0.35
#: Recolored crops, crops as they are, blends, and patterns, in every ten variants.
_MIX = (4, 1, 2, 3)
#: The style's loss is relative to the style: by one that is all but black or flat, it would outweigh all others.
_MIN_MEAN, _MIN_STD = 50, 25
#: Tries to make a variant that is neither; the last one is taken as it is.
_TRIES = 20


def style_variants(styles: Sequence[np.ndarray], count: int, seed: int) -> list[np.ndarray]:
    """Make ``count`` style images (256, 256, 3) uint8 out of ``styles``, (H, W, 3) uint8.

    Crops have a third of the picture to all of it, mirrored or turned; colors come from another style or from a
    rotation of the hues; blends are of two crops. Patterns (strokes along a flow, mosaics, stripes, marble, spots) have
    the colors of a style. Variant i depends on ``seed``, i and ``styles`` alone.
    """
    makers = [
        maker for maker, share in zip((_recolored, _crop, _blend, _pattern), _MIX, strict=True) for _ in range(share)
    ]
    variants = []
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        for _ in range(_TRIES):
            image = makers[index % len(makers)](styles, rng).round().clip(0, 255)
            if image.mean() >= _MIN_MEAN and image.std() >= _MIN_STD:
                break
        variants.append(np.ascontiguousarray(image.astype(np.uint8)))
    return variants


def transfer_colors(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Give ``image`` (H, W, 3) the mean and the covariance of the colors of ``other``; float64, not clipped."""
    pixels, target = image.reshape(-1, 3).astype(np.float64), other.reshape(-1, 3).astype(np.float64)
    mean, root = pixels.mean(0), _root(np.cov(pixels.T) + np.eye(3))
    inverse = np.linalg.inv(root)
    # The map that moves colors least: light stays light where both have it.
    matrix = inverse @ _root(root @ np.cov(target.T) @ root) @ inverse
    return ((pixels - mean) @ matrix.T + target.mean(0)).reshape(image.shape)


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def _pick(styles: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    return styles[int(rng.integers(len(styles)))]


def _crop(styles: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    style = _pick(styles, rng)
    side = round(min(style.shape[:2]) * rng.uniform(_MIN_CROP, 1))
    top, left = (int(rng.integers(length - side + 1)) for length in style.shape[:2])
    part = resized(style[top : top + side, left : left + side], (SIDE, SIDE))
    if rng.random() < 0.5:
        part = part[:, ::-1]
    return np.rot90(part, int(rng.integers(4)) if rng.random() < 0.3 else 0).astype(np.float64)


def _recolored(styles: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    return _change_colors(_crop(styles, rng), styles, rng)


def _change_colors(image: np.ndarray, styles: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    kind = rng.random()
    if kind < 0.6:
        return transfer_colors(image, _pick(styles, rng))
    if kind < 0.8:
        return image[..., rng.permutation(3)]
    return _rotate_hues(image, rng.uniform(0.5, 2 * np.pi - 0.5))


def _rotate_hues(image: np.ndarray, angle: float) -> np.ndarray:
    axis = np.full(3, 3**-0.5)
    cross = np.cross(np.eye(3), axis)
    matrix = np.eye(3) * np.cos(angle) + cross * np.sin(angle) + np.outer(axis, axis) * (1 - np.cos(angle))
    return image @ matrix.T


def _blend(styles: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    first, second = _crop(styles, rng), _crop(styles, rng)
    if rng.random() < 0.5:
        share = rng.uniform(0.3, 0.7)
    else:  # patches of one within the other
        noise = _noise(rng, int(rng.integers(3, 12)))
        share = ((noise - np.median(noise)) * 20 / noise.std() + 0.5).clip(0, 1)[..., None]
    mixed = share * first + (1 - share) * second
    return _change_colors(mixed, styles, rng) if rng.random() < 0.5 else mixed


def _pattern(styles: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    palette = _palette(_pick(styles, rng), rng)
    patterns: list[Callable[[np.ndarray, np.random.Generator], np.ndarray]] = [
        _strokes,
        _strokes,
        _mosaic,
        _stripes,
        _marble,
        _spots,
    ]
    return patterns[int(rng.integers(len(patterns)))](palette, rng)


def _palette(style: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Some colors of a style, from dark to light, (n, 3)."""
    pixels = style.reshape(-1, 3)
    colors = pixels[rng.integers(len(pixels), size=int(rng.integers(3, 9)))].astype(np.float64)
    return colors[np.argsort(colors.sum(1))]


def _noise(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise of as many cells a side, (256, 256)."""
    grid = Image.fromarray(rng.random((cells + 1, cells + 1)).astype(np.float32))
    return np.asarray(grid.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float64)


def _paint(palette: np.ndarray, values: np.ndarray, *, smooth: bool) -> np.ndarray:
    """Colors by values from 0 to 1, (256, 256): steps, or gradients between neighbors."""
    places = values.clip(0, 1) * (len(palette) - 1)
    if not smooth:
        return palette[places.round().astype(int)]
    return np.stack([np.interp(places, np.arange(len(palette)), palette[:, channel]) for channel in range(3)], -1)


def _strokes(palette: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    canvas = Image.fromarray(_paint(palette, _noise(rng, 4), smooth=True).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    turn, tone = _noise(rng, int(rng.integers(2, 6))) * 2 * np.pi, _noise(rng, int(rng.integers(3, 9)))
    length, width = rng.uniform(8, 50), int(rng.integers(2, 13))
    for x, y in rng.uniform(0, SIDE, (int(120_000 / (length * width)), 2)):
        angle = turn[int(y), int(x)]
        value = np.array([[tone[int(y), int(x)] + rng.normal(0, 0.2)]])
        color = _paint(palette, value, smooth=False)[0, 0] + rng.normal(0, 12, 3)
        across, down = np.cos(angle) * length / 2, np.sin(angle) * length / 2
        ends = [(x - across, y - down), (x + across, y + down)]
        draw.line(ends, fill=tuple(int(part) for part in color.clip(0, 255)), width=width)
    return np.asarray(canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.2))), np.float64)


def _mosaic(palette: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    centers = rng.uniform(0, SIDE, (int(rng.integers(30, 500)), 2))
    rows, columns = np.mgrid[:SIDE, :SIDE]
    distances = (rows[..., None] - centers[:, 0]) ** 2 + (columns[..., None] - centers[:, 1]) ** 2
    nearest, second = np.moveaxis(np.sqrt(np.partition(distances, 1, axis=-1)[..., :2]), -1, 0)
    colors = palette[rng.integers(len(palette), size=len(centers))] + rng.normal(0, 15, (len(centers), 3))
    image = colors[distances.argmin(-1)]
    grout = second - nearest < rng.uniform(0, 4)
    return np.where(grout[..., None], palette[0 if rng.random() < 0.7 else -1], image)


def _stripes(palette: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    angle, warp = rng.uniform(0, np.pi), _noise(rng, int(rng.integers(2, 8))) * rng.uniform(0, 0.5)
    phase = (rows * np.cos(angle) + columns * np.sin(angle) + warp) * rng.uniform(4, 30)
    return _paint(palette, (np.sin(2 * np.pi * phase) + 1) / 2, smooth=rng.random() < 0.5)


def _marble(palette: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    octaves = sum(_noise(rng, 3 * 2**octave) * rng.uniform(0.4, 0.7) ** octave for octave in range(5))
    values = np.abs(octaves - np.median(octaves)) if rng.random() < 0.5 else octaves
    low, high = np.quantile(values, (0.02, 0.98))
    return _paint(palette, (values - low) / (high - low), smooth=rng.random() < 0.6)


def _spots(palette: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    ground, *colors = palette[rng.permutation(len(palette))]
    canvas = Image.fromarray(np.broadcast_to(ground, (SIDE, SIDE, 3)).astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    largest = rng.uniform(4, 40)
    for x, y in rng.uniform(0, SIDE, (int(60_000 / largest**1.6), 2)):
        radius = rng.uniform(0.3, 1) * largest / 2
        color = tuple(int(part) for part in colors[int(rng.integers(len(colors)))])
        outline = tuple(int(part) for part in palette[0]) if largest > 15 else None
        box = (x - radius, y - radius * rng.uniform(0.5, 1), x + radius, y + radius)
        draw.ellipse(box, fill=color, outline=outline, width=2)
    return np.asarray(canvas, np.float64)
