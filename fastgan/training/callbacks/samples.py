"""Writing sample pictures."""

from __future__ import annotations

from fastgan.data import write_image
from fastgan.training.callbacks.base import Callback, Run, SamplesEvent, StepEvent


class Samples(Callback):
    """Writes ``samples/*.png`` every ``log.samples_every`` steps, and at the end of a complete run."""

    def on_step(self, run: Run, event: StepEvent) -> None:
        if event.step % run.config.log.samples_every == 0:
            self.write(run, f"step-{event.step:06d}")

    def write(self, run: Run, name: str) -> None:
        """Write the sample pictures of the averaged generator as it is now."""
        if run.folder is None:
            return
        for suffix, image in run.task.samples(run.state).items():
            write_image(image, run.folder.samples / f"{name}{suffix}.png")
            run.notify(Callback.on_samples, SamplesEvent(run.state.global_step, f"samples{suffix}", image))
