"""Holding a quality that the user named (SPEC S10)."""

from __future__ import annotations

import math
from typing import Any

_WEIGHT_LIMIT = math.log(100.0)
#: One unit of error: SSIM is of order one, PSNR is in dB.
_SCALE = {"ssim": 1.0, "psnr": 20.0}


class Controller:
    """Integral action on the log of the structure weight, so that the measured quality settles at the target.

    Quality below the target raises the weight of the structure terms, above it lowers it. What is compared is the
    running mean of the batches' quality plus a correction: how much better or worse photographs held out of the
    training set come out, by the latest ``correct``. Against windup, the error that is integrated is bounded (the
    untrained network is far from any target and no weight would change that) and the weight stays within 1/100 to
    100, where integration outwards stops.

    Args:
        metric: ``"ssim"`` or ``"psnr"``.
        target: what to hold, SSIM in (0, 1) or dB.
        gain: change of the log weight a step, for an error of 1 (SSIM) or 20 dB.
        smoothing: decay of the running mean a step.
        max_error: bound of the integrated error.
    """

    def __init__(
        self, metric: str, target: float, *, gain: float = 0.25, smoothing: float = 0.9, max_error: float = 0.15
    ) -> None:
        if metric not in _SCALE:
            raise ValueError(f"metric must be 'ssim' or 'psnr', got {metric!r}")
        self.metric = metric
        self.target = target
        self.gain = gain
        self.smoothing = smoothing
        self.max_error = max_error
        self.log_weight = 0.0
        self.running: float | None = None
        self.correction = 0.0

    @property
    def weight(self) -> float:
        """The factor of the structure terms."""
        return math.exp(self.log_weight)

    def update(self, quality: float) -> float:
        """Take the quality of one batch; returns the next step's weight. What is not finite is ignored."""
        if not math.isfinite(quality):
            return self.weight
        self.running = (
            quality if self.running is None else self.smoothing * self.running + (1 - self.smoothing) * quality
        )
        error = (self.target - self.running - self.correction) / _SCALE[self.metric]
        error = max(-self.max_error, min(self.max_error, error))
        self.log_weight = max(-_WEIGHT_LIMIT, min(_WEIGHT_LIMIT, self.log_weight + self.gain * error))
        return self.weight

    def correct(self, measured: float) -> None:
        """Take the quality on photographs held out: half the way to its distance from the running mean."""
        if self.running is not None and math.isfinite(measured):
            self.correction += 0.5 * (measured - self.running - self.correction)

    def state_dict(self) -> dict[str, Any]:
        """Plain values for ``load_state_dict``, to continue as if never interrupted."""
        return {
            "metric": self.metric,
            "log_weight": self.log_weight,
            "running": self.running,
            "correction": self.correction,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up ``state_dict``'s values; target, gain and smoothing stay this object's own."""
        self.log_weight = float(state["log_weight"])
        if state["metric"] != self.metric:
            return  # another target than before: the weight is a good start, the measurements are of something else
        self.running = None if state["running"] is None else float(state["running"])
        self.correction = float(state["correction"])
