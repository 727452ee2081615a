"""Going back to the last good state when training diverges (SPEC S10)."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

from fastgan.errors import FastganError
from fastgan.training.callbacks.base import Callback, RollbackEvent, RollbackRequest, Run
from fastgan.training.state import TrainState

_log = logging.getLogger(__name__)

_MAX_ROLLBACKS = 3


class DivergenceError(FastganError):
    """Training did not stay finite after the last rollback."""


class Rollback(Callback):
    """Keeps the last good state, refuses steps that are not finite, and restores that state at lower rates.

    Args:
        finite_metrics: names of the metrics that must be finite.
    """

    def __init__(self, finite_metrics: Sequence[str]) -> None:
        self._finite_metrics = finite_metrics
        self._last_good: dict[str, Any] | None = None

    def start(self, state: TrainState) -> None:
        """Keep the state that the run begins with; after ``on_start`` of all callbacks, which may change it."""
        self._last_good = state.snapshot()

    def after_step(self, run: Run, metrics: dict[str, float]) -> None:
        step, config = run.state.global_step, run.config
        is_kept = any(step % every == 0 for every in (config.eval.every, config.checkpoint.every))
        if not all(math.isfinite(metrics[name]) for name in self._finite_metrics):
            raise RollbackRequest("a loss was not finite")
        # The update may be what is not finite, under losses that are: checked before it is kept anywhere.
        if is_kept and not run.state.is_finite():
            raise RollbackRequest("a parameter was not finite")

    def keep(self, state: TrainState) -> None:
        """Keep a state to fall back to, unless a callback has broken it."""
        if state.is_finite():
            self._last_good = state.snapshot()

    def restore(self, run: Run, fault: str) -> None:
        """Go back to the last good state at lower rates.

        Raises:
            DivergenceError: that was done too often.
        """
        state = run.state
        step, rollbacks, decisions = state.global_step, state.rollbacks, state.decisions
        if self._last_good is None or rollbacks >= _MAX_ROLLBACKS:
            raise DivergenceError(
                f"{fault} at step {step}, after {rollbacks} rollbacks; lower optim.generator.lr "
                f"(now {run.config.optim.generator.lr:g}) or use train.precision=fp32"
            )
        state.load_state_dict(self._last_good)
        state.rollbacks = rollbacks + 1
        state.decisions = decisions
        state.lr_scale *= 0.5
        self._last_good = state.snapshot()
        event = RollbackEvent(step, state.global_step, state.lr_scale, fault)
        _log.warning("%s", event)
        run.notify(Callback.on_rollback, event)

    def restore_last_good(self, state: TrainState) -> bool:
        """Take up the last good state as it was; False where there is none."""
        if self._last_good is None:
            return False
        state.load_state_dict(self._last_good)
        return True
