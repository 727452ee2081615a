"""The run folder: what lies where, and who may write there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastgan.errors import InputError
from fastgan.utils.file_lock import FileLock, LockedError
from fastgan.utils.files import is_temp_file, remove_temp_files, write_text

_LOCK = ".lock"


class RunFolder:
    """Paths of a run. Making this object checks; it changes nothing, but with ``resume`` takes the lock of a run that
    there is. ``create`` takes the lock and makes the folder; ``unlock`` gives the lock back, as the end of the process
    does. A run that ended before its first step may be begun anew, also without ``resume``.

    Raises:
        InputError: another trainer has the folder; ``path`` exists and is not empty, without ``resume``; or, with it,
            is no run folder.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        self.samples = path / "samples"
        self.plots = path / "plots"
        self._resume = resume
        self._lock = FileLock(path / _LOCK)
        try:
            if path.exists() and not path.is_dir():
                raise InputError(f"out {path}: is a file; give a folder")
            if path.is_dir():
                self._check()
                if resume and any(path.iterdir()):
                    self.lock()
        except OSError as error:
            raise InputError(f"out {path}: cannot be used ({error.strerror})") from None

    def create(self, config: str, log: Callable[[str], None] = lambda _: None) -> None:
        """Take the lock, make the folder and write ``config.yaml``; ``log`` takes a line if there can be no lock.

        Raises:
            InputError: that is not allowed, or another trainer has the folder.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not self.lock():
                log(f"{self.path}: this file system has no locks; let no other trainer write there")
            self._check()  # another may have begun, and ended, since the first look
            remove_temp_files(self.path)
        except OSError as error:
            raise InputError(f"out {self.path}: cannot be created ({error.strerror})") from None
        write_text(self.config, config)
        self.samples.mkdir(exist_ok=True)

    def lock(self) -> bool:
        """Take the lock, if this object does not have it; False on a file system without locks.

        Raises:
            InputError: another trainer has it, which is named.
        """
        try:
            return self._lock.acquire()
        except LockedError as owner:
            raise self._in_use(owner) from None

    def unlock(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def _check(self) -> None:
        try:
            self._lock.check_free()
        except LockedError as owner:
            raise self._in_use(owner) from None
        names = {path.name for path in self.path.iterdir() if not is_temp_file(path)}
        if not self._resume and not self._is_before_first_step(names):
            raise InputError(f"out {self.path}: already exists; add resume=True to go on, or give another folder")
        if self._resume and names - {_LOCK} and not self.config.is_file():
            raise InputError(f"out {self.path}: is not a run folder (no config.yaml), nothing to resume")

    def _is_before_first_step(self, names: set[str]) -> bool:
        """Whether a folder with these names is empty, or a run's that has nothing to lose yet."""
        if not names - {_LOCK}:
            return True
        begun = {_LOCK, "config.yaml", "metrics.jsonl", "samples", "tb"}
        if _LOCK not in names or not names <= begun:
            return False
        has_steps = self.metrics.is_file() and self.metrics.stat().st_size > 0
        return not has_steps and not (self.samples.is_dir() and any(self.samples.iterdir()))

    def _in_use(self, owner: LockedError) -> InputError:
        return InputError(f"out {self.path}: {owner} trains there; wait for its end, or give another folder")
