"""Schedules of a run, as pure functions of its progress (0 to 1) or step."""

from __future__ import annotations

import math


def lr_factor(progress: float, *, warmup: float, min_ratio: float) -> float:
    """The factor of the learning rates: linear warm-up over the first ``warmup`` of the run, times cosine decay.

    Args:
        progress: the share of the run that is done.
        warmup: the share of the run over which the rates rise from 0; 0 for none.
        min_ratio: what the cosine ends at.
    """
    warm = min(1.0, progress / warmup) if warmup else 1.0
    return warm * (min_ratio + (1 - min_ratio) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def temperature(progress: float, *, start: float, end: float) -> float:
    """The temperature of the logits (SPEC S14). It is a scale: it moves by equal factors in equal times."""
    return start * (end / start) ** min(1.0, progress)


def ema_decay(step: int, *, max_decay: float) -> float:
    """The decay of the averaged weights; short at first, so that the average forgets the untrained network."""
    return min(max_decay, (1 + step) / (10 + step))
