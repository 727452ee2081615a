"""The files that a command line leaves behind, and a command line in a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line on stderr of a command that was refused."""
        assert self.code == 2, self
        lines = self.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("fastgan: "), self
        assert "Traceback" not in self.err and self.out == "", self
        return lines[0]


Command = Callable[..., Result]


@contextmanager
def started(
    arguments: Iterable[object], then: Callable[[], object] = lambda: None, **environment: str
) -> Iterator["subprocess.Popen[str]"]:
    """The command in a process of its own, which calls ``then`` first; killed if a test leaves it running."""

    def begin() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored in what a shell runs in the background
        then()

    process = subprocess.Popen(
        [sys.executable, "-m", "fastgan", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        preexec_fn=begin,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()
