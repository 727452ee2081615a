"""Writing TensorBoard files (SPEC S29)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastgan.training.callbacks.base import Callback, RollbackEvent, Run, SamplesEvent, StepEvent
from fastgan.utils.files import write_error


class TensorBoard(Callback):
    """Scalars every step and sample pictures under ``tb/``."""

    def __init__(self, folder: Path, resume_at: int) -> None:
        self._folder = folder
        self._open(resume_at)

    def on_step(self, run: Run, event: StepEvent) -> None:
        with self._naming_the_folder():
            for name, value in event.metrics.items():
                if math.isfinite(value):
                    self._writer.add_scalar(name, value, event.step)

    def on_samples(self, run: Run, event: SamplesEvent) -> None:
        with self._naming_the_folder():
            self._writer.add_image(event.name, event.image, event.step, dataformats="HWC")

    def on_rollback(self, run: Run, event: RollbackEvent) -> None:
        self.close()
        self._open(event.restored_step)

    def close(self) -> None:
        with self._naming_the_folder():
            self._writer.close()

    def _open(self, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        with self._naming_the_folder(), _quiet_threads():
            self._writer = SummaryWriter(_utf8_name(self._folder), purge_step=step + 1 if step else None)

    @contextmanager
    def _naming_the_folder(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # what its thread could not write is raised at a later call
            raise write_error(self._folder, error) from error


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Let the threads of writers that are made print no traceback: what one raises is raised again at a later call."""
    from tensorboard.summary.writer import event_file_writer as module  # type: ignore[import-untyped]

    loud = module._AsyncWriterThread

    class QuietThread(loud):  # type: ignore[misc, valid-type]
        def run(self) -> None:
            with suppress(Exception):
                super().run()

    module._AsyncWriterThread = QuietThread
    try:
        yield
    finally:
        module._AsyncWriterThread = loud


def _utf8_name(folder: Path) -> str:
    """A name of the folder, which is made, in UTF-8: TensorBoard takes no other."""
    try:
        folder.as_posix().encode()
    except UnicodeEncodeError:
        folder.mkdir(parents=True, exist_ok=True)
        return f"/proc/self/fd/{os.open(folder, os.O_RDONLY)}"  # open for as long as its thread may write
    return str(folder)
