"""Split of photographs into training and validation sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from fastgan.data.shards import ImagePath


class Split(NamedTuple):
    """Photographs for training and for validation, and whether the two overlap (``shared``)."""

    train: Sequence[ImagePath]
    val: Sequence[ImagePath]
    shared: bool


def split_train_val(
    paths: Sequence[ImagePath],
    *,
    seed: int = 0,
    fraction: float = 0.1,
    at_most: int = 8,
    usable: Callable[[ImagePath], bool] | None = None,
) -> Split:
    """Hold out ``ceil(fraction * n)`` of the n photographs, at most ``at_most``, for validation.

    The choice depends on the order of ``paths``, on ``seed`` and on ``usable`` alone; both lists keep the given
    order. A path that stands there twice counts once, so that none is on both sides. ``usable`` (for instance
    ``is_readable``) is called for candidates only, so that no broken file is used for validation; rejected candidates
    stay in ``train``, where they are reported.

    With fewer than four photographs, or none that is usable, nothing is held out: ``val`` then has the first
    ``at_most`` photographs of ``train`` and ``shared`` is True, so that results on them are not mistaken for quality
    on unseen photographs.

    Raises:
        ValueError: ``fraction`` is not in [0, 1) or ``at_most`` is below 1.
    """
    if not 0 <= fraction < 1 or at_most < 1:
        raise ValueError(f"fraction must be in [0, 1) and at_most 1 or more, got {fraction} and {at_most}")
    everything = list(dict.fromkeys(paths))
    count = min(at_most, math.ceil(fraction * len(everything))) if len(everything) >= 4 else 0
    order = np.argsort(np.random.Philox(np.random.SeedSequence(seed)).random_raw(len(everything)), kind="stable")
    val_indices: set[int] = set()
    for candidate in order:
        if len(val_indices) == count:
            break
        if usable is None or usable(everything[candidate]):
            val_indices.add(int(candidate))
    if not val_indices:
        return Split(everything, everything[:at_most], True)
    train = [path for index, path in enumerate(everything) if index not in val_indices]
    return Split(train, [everything[index] for index in sorted(val_indices)], False)
