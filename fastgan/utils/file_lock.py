"""A lock on a file that the system releases when its process dies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import os
import socket
import weakref
from pathlib import Path

#: What ``flock`` fails with on file systems that have none.
_NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL)


class LockedError(Exception):
    """Somebody else has the lock; the message names the process."""


class FileLock:
    """An advisory lock (``flock``) on ``path``, which names its owner: process and host. One process or object has it.

    The file stays when the lock is released: to remove it would let two take one lock each on files of one name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock, if this object does not have it; the file is made where it is missing.

        Returns:
            False on a file system that has no locks.

        Raises:
            LockedError: another has it.
            OSError: the file cannot be written.
        """
        if self._descriptor is not None:
            return True
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            supported = self._flock(descriptor, fcntl.LOCK_EX)
        except LockedError:
            os.close(descriptor)
            raise
        if not supported:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        _HELD.add(self)
        with contextlib.suppress(OSError):  # a full disk: then nobody is named
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, self._own_name().encode(), 0)
        return True

    def check_free(self) -> None:
        """Raise LockedError if another has the lock; changes and makes nothing."""
        if self._descriptor is not None:
            return
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError:
            return
        try:
            self._flock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Give the lock back, if this object has it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)

    def __del__(self) -> None:
        self.release()

    def _flock(self, descriptor: int, kind: int) -> bool:
        for attempt in range(2):
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                owner = os.pread(descriptor, 1000, 0).decode(errors="replace").strip()
                if attempt or owner != self._own_name():
                    raise LockedError(owner or "another process") from None
                gc.collect()  # an owner in this process may be garbage that waits to be collected
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                return False
        raise AssertionError("unreachable")

    def _own_name(self) -> str:
        return f"process {os.getpid()} on {socket.gethostname()}"

    def _forget(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


#: Locks of this process. A forked child shares them, and would hold them after its parent's death.
_HELD: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _forget_after_fork() -> None:
    for lock in list(_HELD):
        lock._forget()


os.register_at_fork(after_in_child=_forget_after_fork)
