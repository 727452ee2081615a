"""The lock of one process at a time, which its death releases."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.waiting import HANG

from fastgan.utils.file_lock import FileLock, LockedError

#: Takes the lock, says so, forks a child that stays, and waits to be killed.
OWNER = """
import os, sys
from pathlib import Path
from fastgan.utils.file_lock import FileLock
lock = FileLock(Path(sys.argv[1]))
lock.acquire()
read, write = os.pipe()
child = os.fork()
if not child:
    os.close(1)  # or the one who reads the output would wait for the child
    os.close(write)
    os.read(read, 1)
    sys.stdin.read()  # until the test ends
    os._exit(0)
os.close(read)
os.close(write)
print(os.getpid(), flush=True)
sys.stdin.read()
"""


def test_another_process_is_refused_by_name_until_the_owner_is_killed(tmp_path: Path) -> None:
    """Also where the owner has forked a process that outlives it, as the loader does."""
    path = tmp_path / "lock"
    command = [sys.executable, "-c", OWNER, str(path)]
    owner = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdin is not None and owner.stdout is not None
    try:
        pid = int(owner.stdout.readline())
        for ask in (FileLock(path).acquire, FileLock(path).check_free):
            with pytest.raises(LockedError, match=f"process {pid} on {socket.gethostname()}"):
                ask()
        owner.kill()
        owner.wait(HANG)
        lock = FileLock(path)
        lock.check_free()
        assert lock.acquire() and str(os.getpid()) in path.read_text()
        lock.release()
        assert path.read_text() == ""
    finally:
        owner.kill()
        owner.stdin.close()
        owner.stdout.close()


def test_two_owners_in_one_process(tmp_path: Path) -> None:
    one, other = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert one.acquire() and one.acquire()
    one.check_free()
    with pytest.raises(LockedError, match=f"process {os.getpid()}"):
        other.acquire()
    one.release()
    assert other.acquire()
    other.release()


def test_an_owner_that_is_garbage_is_none(tmp_path: Path) -> None:
    """Held by a cycle that nothing leads to, as a trainer is that somebody has dropped."""
    held = FileLock(tmp_path / "lock")
    held.acquire()
    held.itself = held  # type: ignore[attr-defined]
    del held
    lock = FileLock(tmp_path / "lock")
    assert lock.acquire()
    lock.release()


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def flock(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    assert not FileLock(tmp_path / "lock").acquire()
    FileLock(tmp_path / "lock").check_free()


def test_what_is_not_there_is_free_and_stays_so(tmp_path: Path) -> None:
    FileLock(tmp_path / "lock").check_free()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="No such file"):
        FileLock(tmp_path / "none" / "lock").acquire()
