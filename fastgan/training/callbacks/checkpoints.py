"""Writing checkpoints and the model."""

from __future__ import annotations

from pathlib import Path

from fastgan.errors import first_line
from fastgan.inference.model_files import save_model
from fastgan.training import checkpoint
from fastgan.training.callbacks.base import Callback, CheckpointEvent, Run, StepEvent
from fastgan.training.callbacks.rollback import Rollback
from fastgan.utils.reserved import FEATURES_WORDS, absolute_text


class Checkpoints(Callback):
    """Writes a checkpoint and the model every ``checkpoint.every`` steps.

    Attributes:
        saved_step: the step of the newest checkpoint; None before the first.
    """

    def __init__(self) -> None:
        self.saved_step: int | None = None
        self._has_task_files = False

    def on_step(self, run: Run, event: StepEvent) -> None:
        if event.step % run.config.checkpoint.every == 0:
            self.save(run)

    def save(self, run: Run) -> Path | None:
        """Write both to the run folder; None without one."""
        if run.folder is None:
            return None
        state, config = run.state, run.config
        path = checkpoint.save_checkpoint(
            run.folder.checkpoints, state.global_step, state.state_dict(), config.checkpoint.keep
        )
        features = absolute_text(config.model.features, FEATURES_WORDS)  # the model is used from other folders
        extra = {"size": config.data.size, "steps": state.global_step, "features": features}
        save_model(run.folder.model, state.export_generator, extra)
        if not self._has_task_files:
            run.task.save_files(run.folder.model)
            self._has_task_files = True
        self.saved_step = state.global_step
        run.notify(Callback.on_checkpoint, CheckpointEvent(state.global_step, path))
        return path

    def save_after_error(self, run: Run, rollback: Rollback, *, in_step: bool) -> None:
        """Save what was learned when an error ends the run: the state as it is, or the last good one.

        Args:
            run: of the error.
            rollback: keeps the last good state.
            in_step: whether it came in the middle of a step, where the state is that of no step.
        """
        state = run.state
        if run.folder is None:
            return
        try:
            if (in_step or not state.is_finite()) and not rollback.restore_last_good(state):
                return
            if state.global_step > (self.saved_step or 0):
                run.save()
                run.log(f"saved step {state.global_step}, to be resumed from there")
        except Exception as error:  # the one that ends the run is told, too
            run.log(f"what was learned since the last checkpoint could not be saved: {first_line(error)}")
