"""Holding photographs out of training, to measure on what the network has never seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from fastgan.data.shards import Photo


class Split(NamedTuple):
    """Photographs to train on, photographs to measure on, and whether they are the same ones (``shared``)."""

    train: Sequence[Photo]
    held: Sequence[Photo]
    shared: bool


def hold_out(
    paths: Sequence[Photo],
    *,
    seed: int = 0,
    fraction: float = 0.1,
    at_most: int = 8,
    usable: Callable[[Photo], bool] | None = None,
) -> Split:
    """Choose ``ceil(fraction * n)`` of the n photographs, but no more than ``at_most``, to be held out of training.

    The choice depends on the order of ``paths``, on ``seed`` and on ``usable`` alone; both lists keep the given
    order. ``usable`` (for instance ``is_readable``) is asked about the candidates only, so that a broken file does
    not become a measure; those refused stay among the photographs to train on, where they are reported.

    With fewer than four photographs, or none that is usable, nothing is held out: ``held`` then has the first
    ``at_most`` photographs of ``train`` and ``shared`` is True, so that what is measured on them is not mistaken for
    quality on unseen photographs.

    Raises:
        ValueError: ``fraction`` is not in [0, 1) or ``at_most`` is below 1.
    """
    if not 0 <= fraction < 1 or at_most < 1:
        raise ValueError(f"fraction must be in [0, 1) and at_most 1 or more, got {fraction} and {at_most}")
    everything = list(paths)
    wanted = min(at_most, math.ceil(fraction * len(everything))) if len(everything) >= 4 else 0
    order = np.argsort(np.random.Philox(np.random.SeedSequence(seed)).random_raw(len(everything)), kind="stable")
    chosen: set[int] = set()
    for candidate in order:
        if len(chosen) == wanted:
            break
        if usable is None or usable(everything[candidate]):
            chosen.add(int(candidate))
    if not chosen:
        return Split(everything, everything[:at_most], True)
    train = [path for index, path in enumerate(everything) if index not in chosen]
    return Split(train, [everything[index] for index in sorted(chosen)], False)
