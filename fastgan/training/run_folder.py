"""The run folder: what lies where, and who may write there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastgan.errors import InputError
from fastgan.utils.file_lock import FileLock, LockedError
from fastgan.utils.files import is_temp_file, remove_temp_files, write_text

_LOCK = ".lock"


class RunFolder:
    """Paths of a run. Making this object checks; it changes nothing and takes no lock.

    A run that ended before its first step may be begun anew, also without ``resume``.

    Raises:
        InputError: another trainer writes there; ``path`` exists and is not empty, without ``resume``; or, with it,
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
        self._is_begun = self._is_writing = False
        try:
            if path.exists() and not path.is_dir():
                raise InputError(f"out {path}: is a file; give a folder")
            if path.is_dir():
                self._check()
            self._known = self._checkpoint_times()
        except OSError as error:
            raise InputError(f"out {path}: cannot be used ({error.strerror})") from None

    @contextmanager
    def writing(self, config: str, log: Callable[[str], None] = lambda _: None) -> Iterator[None]:
        """Hold the lock during a ``with`` block, in which alone there is writing; one in another changes nothing.

        Args:
            config: what ``config.yaml`` holds; the first block makes the folder and writes it.
            log: takes a line if there can be no lock.

        Raises:
            InputError: that is not allowed, or another trainer writes there, or has since this object last looked.
        """
        if self._is_writing:
            yield
            return
        try:
            self._begin(config, log)
            self._is_writing = True
            yield
        finally:
            if self._is_writing:
                self._is_writing = False
                self._known = self._checkpoint_times()
            self._lock.release()

    def _begin(self, config: str, log: Callable[[str], None]) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not self._lock.acquire():
                log(f"{self.path}: this file system has no locks; let no other trainer write there")
            if not self._is_begun:
                self._check()  # another may have begun, and ended, since the first look
                remove_temp_files(self.path)
            if self._checkpoint_times() != self._known:
                raise InputError(
                    f"out {self.path}: another trainer has saved there since this one was built; build it again"
                )
        except LockedError as owner:
            raise self._in_use(owner) from None
        except OSError as error:
            raise InputError(f"out {self.path}: cannot be created ({error.strerror})") from None
        if not self._is_begun:
            write_text(self.config, config)
            self.samples.mkdir(exist_ok=True)
            self._is_begun = True

    def _checkpoint_times(self) -> dict[str, int]:
        """When each checkpoint was written: others are another trainer's."""
        times = {}
        for path in self.checkpoints.glob("step-*.pt"):
            with suppress(FileNotFoundError):  # removed by one that writes now
                times[path.name] = path.stat().st_mtime_ns
        return times

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
