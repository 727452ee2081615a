"""Signals that end a run in order."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastgan.training import Trainer

#: Seconds in which further signals are the first one again: `timeout` and service managers send two in a row, and
#: Ctrl-C reaches a process directly and through the launcher that forwards it.
_REPEATED = 1.0


class StopOnSignal:
    """SIGINT, SIGTERM and SIGHUP end the run after the step under way, also before the trainer is built; a second one
    ends the process at once.

    Attributes:
        number: of the first signal; None before it.
    """

    def __init__(self) -> None:
        self.trainer: Trainer | None = None
        self.number: int | None = None
        self._first = 0.0
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # ignored: run by nohup
                signal.signal(number, self._ask)

    def _ask(self, number: int, _: object) -> None:
        if self.number is None:
            self.number, self._first = number, time.monotonic()
            if self.trainer is not None:
                self.trainer.request_stop()
        elif time.monotonic() - self._first > _REPEATED:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
