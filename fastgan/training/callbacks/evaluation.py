"""Measuring the averaged generator during the run, and what depends on it (SPEC S10)."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from fastgan.config.targets import TARGET_METRICS
from fastgan.errors import InputError
from fastgan.metrics.lpips import lpips_unavailable_reason
from fastgan.training.callbacks.base import Callback, EvaluationEvent, RollbackRequest, Run
from fastgan.training.callbacks.rollback import Rollback
from fastgan.training.state import TrainState

if TYPE_CHECKING:
    from fastgan.config import Config


def tracks_best(config: Config) -> bool:
    """Whether something depends on the best evaluation."""
    quality = config.quality
    return quality.keep_best or quality.patience is not None or quality.rollback is not None


def check_evaluates(config: Config, photographs: object | None) -> None:
    """Raise InputError where something depends on evaluations and there are no photographs to hold out, or LPIPS cannot
    be measured."""
    target = None if config.quality.target is None else config.quality.target[0]
    if photographs is None and (tracks_best(config) or (target and not TARGET_METRICS[target].of_batches)):
        field = "keep_best, patience and rollback" if tracks_best(config) else f"target_{target}"
        raise InputError(f"quality.{field}: needs photographs held out; give data.content and no data")
    reason = lpips_unavailable_reason()
    if target == "lpips" and reason is not None:
        raise InputError(f"quality.target_lpips: {reason}")


class Evaluation(Callback):
    """Evaluates every ``eval.every`` steps: corrects the controller, tracks the best, keeps a state to fall back to.

    Args:
        rollback: keeps the state.
    """

    def __init__(self, rollback: Rollback) -> None:
        self._rollback = rollback
        self._score: float | None = None

    def after_step(self, run: Run, metrics: dict[str, float]) -> None:
        if run.state.global_step % run.config.eval.every == 0:
            metrics |= self.evaluate(run)

    def evaluate(self, run: Run) -> dict[str, float]:
        """Measure, where something depends on it: ``val/...`` names. Raises RollbackRequest where quality fell."""
        controller, quality, state = run.state.controller, run.config.quality, run.state
        self._score = None
        if controller is None and not tracks_best(run.config) and not run.task.evaluates_always:
            return {}
        measured = run.task.evaluate_quick(state)
        if not measured:
            return {}
        if controller is not None:
            controller.correct(measured[f"val/{controller.metric}"])
        run.notify(Callback.on_evaluation, EvaluationEvent(state.global_step, measured))
        if tracks_best(run.config):
            score = measured["val/score"] = run.task.score(measured)
            best = state.best
            if quality.rollback is not None and best is not None and score > quality.rollback * best.score > 0:
                raise RollbackRequest(f"quality fell, to a score of {score:.3g} from {best.score:.3g}")
            self._score = score
        return measured

    def accept(self, run: Run) -> None:
        """Track the best and keep the state of a step that was measured, once no callback has refused it."""
        if run.state.global_step % run.config.eval.every == 0:
            self._accept(run.state)

    def _accept(self, state: TrainState) -> None:
        if self._score is not None:
            state.update_best(self._score)
        self._rollback.keep(state)

    def should_stop(self, run: Run) -> bool:
        """Whether ``quality.patience`` is exhausted; says so."""
        best, patience = run.state.best, run.config.quality.patience
        if best is None or patience is None or best.evals_without_gain < patience:
            return False
        run.log(
            f"no better than at step {best.step} in {best.evals_without_gain} evaluations: "
            f"ended at step {run.state.global_step}",
            logging.INFO,
        )
        return True

    def use_best(self, run: Run) -> None:
        """At the end of a run with ``quality.keep_best``: make the model the best one evaluated."""
        if not run.config.quality.keep_best:
            return
        if run.state.global_step % run.config.eval.every:
            with suppress(RollbackRequest):
                self.evaluate(run)
                self._accept(run.state)
        run.state.use_best()
        if run.state.best_generator is not None and run.state.best is not None:
            run.log(f"the model is that of step {run.state.best.step}, the best of those evaluated", logging.INFO)
