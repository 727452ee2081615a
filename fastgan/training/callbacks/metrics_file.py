"""Writing ``metrics.jsonl`` (SPEC S29)."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from fastgan.evaluation.metrics_log import read_metrics
from fastgan.training.callbacks.base import Callback, RollbackEvent, Run, StepEvent
from fastgan.utils.files import write_error, write_text


class MetricsFile(Callback):
    """``metrics.jsonl``: one object every step, infinities as null. Lines past ``resume_at`` are dropped first."""

    def __init__(self, path: Path, resume_at: int) -> None:
        lines = [line for line in read_metrics(path) if line["step"] <= resume_at]
        write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
        self._file: IO[str] = path.open("a", encoding="utf-8")

    def on_step(self, run: Run, event: StepEvent) -> None:
        line: dict[str, Any] = {"step": event.step}
        line.update({name: value if math.isfinite(value) else None for name, value in event.metrics.items()})
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as error:
            raise write_error(self._file.name, error) from error

    def on_rollback(self, run: Run, event: RollbackEvent) -> None:
        # The steps that were rolled back would otherwise be there twice.
        self._file.close()
        path = Path(self._file.name)
        self.__init__(path, event.restored_step)  # type: ignore[misc]

    def close(self) -> None:
        with suppress(OSError):  # of a line that could not be written, which was reported
            self._file.close()
