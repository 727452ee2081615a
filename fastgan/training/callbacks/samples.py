"""Writing sample pictures."""

from __future__ import annotations

from fastgan.data import write_image
from fastgan.evaluation import EvalResult
from fastgan.training.callbacks.base import Callback, Run, SamplesEvent, StepEvent


class Samples(Callback):
    """Writes ``samples/*.png`` every ``log.samples_every`` steps, and at the end of a complete run."""

    def on_step(self, run: Run, event: StepEvent) -> None:
        if event.step % run.config.log.samples_every == 0:
            self.write(run, f"step-{event.step:06d}")

    def write(self, run: Run, name: str, result: EvalResult | None = None) -> None:
        """Write the sample pictures of the averaged generator as it is now; at the end, with what was measured."""
        if run.folder is None:
            return
        for suffix, image in run.task.samples(run.state, result).items():
            write_image(image, run.folder.samples / f"{name}{suffix}.png")
            run.notify(Callback.on_samples, SamplesEvent(run.state.global_step, f"samples{suffix}", image))
