"""What a run leaves in its folder while it trains: metrics, TensorBoard files, sample pictures (SPEC S29)."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from fastgan.errors import InputError
from fastgan.evaluation.metrics_log import read_metrics
from fastgan.training.callbacks.base import Callback, RollbackEvent, StepEvent
from fastgan.utils.files import write_text


class MetricsFile(Callback):
    """``metrics.jsonl``: one object every step, infinities as null. Lines past ``resume_at`` are dropped first."""

    def __init__(self, path: Path, resume_at: int) -> None:
        kept = [line for line in read_metrics(path) if line["step"] <= resume_at]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file: IO[str] = path.open("a", encoding="utf-8")

    def on_step(self, trainer: Any, event: StepEvent) -> None:
        line: dict[str, Any] = {"step": event.step}
        line.update({name: value if math.isfinite(value) else None for name, value in event.metrics.items()})
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as error:
            raise InputError(f"{self._file.name}: cannot be written ({error.strerror})") from error

    def on_rollback(self, trainer: Any, event: RollbackEvent) -> None:
        # The steps that were taken back would otherwise stand twice.
        self._file.close()
        path = Path(self._file.name)
        self.__init__(path, event.restored_step)  # type: ignore[misc]

    def close(self) -> None:
        with suppress(OSError):  # of a line that could not be written, which has been told
            self._file.close()


class TensorBoard(Callback):
    """Scalars every step and sample pictures under ``tb/``."""

    def __init__(self, folder: Path, resume_at: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._make = lambda step: SummaryWriter(str(folder), purge_step=step + 1 if step else None)
        self._folder = folder
        self._writer = self._make(resume_at)

    def on_step(self, trainer: Any, event: StepEvent) -> None:
        for name, value in event.metrics.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, event.step)

    def add_images(self, name: str, picture: np.ndarray, step: int) -> None:
        """A sample sheet (H, W, 3) uint8."""
        self._writer.add_image(name, picture, step, dataformats="HWC")

    def on_rollback(self, trainer: Any, event: RollbackEvent) -> None:
        self.close()
        self._writer = self._make(event.restored_step)

    def close(self) -> None:
        try:
            self._writer.close()
        except OSError as error:  # what its thread could not write is told here
            raise InputError(f"{self._folder}: cannot be written ({error.strerror})") from error
