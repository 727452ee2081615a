"""What a command line left behind."""

from collections.abc import Callable
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
