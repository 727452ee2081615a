"""Writing TensorBoard files (SPEC S29)."""

from __future__ import annotations

import math
import os
from pathlib import Path

from fastgan.errors import InputError
from fastgan.training.callbacks.base import Callback, RollbackEvent, Run, SamplesEvent, StepEvent


class TensorBoard(Callback):
    """Scalars every step and sample pictures under ``tb/``."""

    def __init__(self, folder: Path, resume_at: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._make = lambda step: SummaryWriter(_utf8_name(folder), purge_step=step + 1 if step else None)
        self._folder = folder
        self._writer = self._make(resume_at)

    def on_step(self, run: Run, event: StepEvent) -> None:
        for name, value in event.metrics.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, event.step)

    def on_samples(self, run: Run, event: SamplesEvent) -> None:
        self._writer.add_image(event.name, event.image, event.step, dataformats="HWC")

    def on_rollback(self, run: Run, event: RollbackEvent) -> None:
        self.close()
        self._writer = self._make(event.restored_step)

    def close(self) -> None:
        try:
            self._writer.close()
        except OSError as error:  # what its thread could not write is reported here
            raise InputError(f"{self._folder}: cannot be written ({error.strerror})") from error


def _utf8_name(folder: Path) -> str:
    """A name of the folder, which is made, in UTF-8: TensorBoard takes no other."""
    try:
        folder.as_posix().encode()
    except UnicodeEncodeError:
        folder.mkdir(parents=True, exist_ok=True)
        return f"/proc/self/fd/{os.open(folder, os.O_RDONLY)}"  # open for as long as its thread may write
    return str(folder)
