"""Writing checkpoints and the model."""

from __future__ import annotations

from pathlib import Path

from fastgan.inference.model_files import save_model
from fastgan.training import checkpoint
from fastgan.training.callbacks.base import Callback, CheckpointEvent, Run, StepEvent
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
