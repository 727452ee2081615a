"""Holding a quality that the user named (SPEC S10)."""

from __future__ import annotations

import math
from typing import Any

from fastgan.config.targets import TARGET_METRICS

_WEIGHT_LIMIT = math.log(100.0)
#: The largest change of the log weight for one measurement of photographs held out, however many steps lie between:
#: the network has to follow before the next says anything new.
_MAX_CHANGE = 0.7


class Controller:
    """Integral action on the log of the structure weight, so that the measured quality settles at the target.

    A larger weight leaves more of the photograph: SSIM and PSNR rise, LPIPS and coverage fall. What each batch is
    measured by is compared as the running mean of the batches plus a correction: how much better or worse photographs
    held out of the training set come out, by the latest ``correct``. Coverage and LPIPS are measured of photographs
    held out alone, and each ``correct`` then makes up for the steps since the last. Against windup, the error that is
    integrated is bounded (the untrained network is far from any target and no weight would change that) and the weight
    stays within 1/100 to 100, where integration outwards stops.

    Args:
        metric: a name of ``TARGET_METRICS``.
        target: what to hold; PSNR in dB, the others in (0, 1).
        gain: change of the log weight a step, for an error of 1 (20 dB).
        smoothing: decay of the running mean a step.
        max_error: bound of the integrated error.
    """

    def __init__(
        self, metric: str, target: float, *, gain: float = 0.25, smoothing: float = 0.9, max_error: float = 0.15
    ) -> None:
        if metric not in TARGET_METRICS:
            raise ValueError(f"metric must be one of {', '.join(map(repr, TARGET_METRICS))}, got {metric!r}")
        self.metric = metric
        self.target = target
        self.gain = gain
        self.smoothing = smoothing
        self.max_error = max_error
        self.log_weight = 0.0
        self.running: float | None = None
        self.correction = 0.0
        self.steps_since_measured = 0

    @property
    def weight(self) -> float:
        """The factor of the structure terms."""
        return math.exp(self.log_weight)

    def update(self, quality: float) -> float:
        """Take the quality of one batch; returns the next step's weight. What is not finite is ignored."""
        self.steps_since_measured += 1
        if not math.isfinite(quality):
            return self.weight
        self.running = (
            quality if self.running is None else self.smoothing * self.running + (1 - self.smoothing) * quality
        )
        self._change_weight(self.gain * self._error(self.running + self.correction))
        return self.weight

    def correct(self, measured: float) -> None:
        """Take the quality on photographs held out.

        The correction moves half the way to its distance from the running mean; where batches are not measured, the
        weight does.
        """
        if not math.isfinite(measured):
            return
        if not TARGET_METRICS[self.metric].of_batches:
            change = self.gain * self.steps_since_measured * self._error(measured)
            self._change_weight(max(-_MAX_CHANGE, min(_MAX_CHANGE, change)))
        elif self.running is not None:
            self.correction += 0.5 * (measured - self.running - self.correction)
        self.steps_since_measured = 0

    def _error(self, quality: float) -> float:
        """How much more structure is wanted, bounded."""
        metric = TARGET_METRICS[self.metric]
        error = (self.target - quality) / metric.scale
        if not metric.rises_with_structure:
            error = -error
        return max(-self.max_error, min(self.max_error, error))

    def _change_weight(self, change: float) -> None:
        self.log_weight = max(-_WEIGHT_LIMIT, min(_WEIGHT_LIMIT, self.log_weight + change))

    def state_dict(self) -> dict[str, Any]:
        """Plain values for ``load_state_dict``, to continue as if never interrupted."""
        return {
            "metric": self.metric,
            "log_weight": self.log_weight,
            "running": self.running,
            "correction": self.correction,
            "steps_since_measured": self.steps_since_measured,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up ``state_dict``'s values; target, gain and smoothing stay this object's own."""
        self.log_weight = float(state["log_weight"])
        if state["metric"] != self.metric:
            return  # another target than before: the weight is a good start, the measurements are of something else
        self.running = None if state["running"] is None else float(state["running"])
        self.correction = float(state["correction"])
        self.steps_since_measured = int(state["steps_since_measured"])
