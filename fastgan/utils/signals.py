"""Signals that end a command, as an exception that says which one came."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

#: Ctrl-C; what a supervisor sends; a terminal that is closed.
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal came that ends the command. Notes that are added on its way out say what is done.

    Attributes:
        exit_code: 128 + n of the signal n, as a shell has it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number

    def __str__(self) -> str:
        return "; ".join(["interrupted", *getattr(self, "__notes__", ())])


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP raise ``Interrupted`` in the main thread; as before at the end.

    A signal that is ignored stays so: of a command under ``nohup``, or in the background of a script.
    """
    previous = {}
    if threading.current_thread() is threading.main_thread():  # no other may set handlers
        previous = {number: signal.getsignal(number) for number in _ENDING}
        previous = {number: handler for number, handler in previous.items() if handler is not signal.SIG_IGN}
    for number in previous:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted(number)
