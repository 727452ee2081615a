"""Files written whole or not at all."""

import errno
import io
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from helpers.waiting import open_pipe

from fastgan.errors import InputError
from fastgan.utils.files import (
    atomic_write,
    make_folder,
    open_regular,
    read_bytes,
    read_json,
    remove_temp_files,
    write_text,
)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


FAILURES = [OSError(28, "No space left on device"), RuntimeError("enforce fail\nat inline"), KeyError("x")]


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_a_failure_leaves_the_old_file(tmp_path: Path, error: Exception) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"old")

    def write(file: BinaryIO) -> None:
        file.write(b"half of the n")
        file.flush()
        raise error

    expected = InputError if isinstance(error, OSError | RuntimeError) else KeyError
    with pytest.raises(expected) as caught:
        atomic_write(path, write)
    if expected is InputError:
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert contents(tmp_path) == {"model.bin": b"old"}


def test_interrupted(tmp_path: Path) -> None:
    def write(file: BinaryIO) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic_write(tmp_path / "a", write)
    assert contents(tmp_path) == {}


def test_the_new_file_is_there_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "text"
    write_text(path, "old")

    def write(file: BinaryIO) -> None:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"

    atomic_write(path, write)
    assert contents(tmp_path) == {"text": b"new"}


@pytest.mark.parametrize("place", ["none/file", "text/file", "folder"])
def test_places_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    (tmp_path / "text").write_text("a file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_text(tmp_path / place, "x")
    assert contents(tmp_path) == {"text": b"a file"} and not list((tmp_path / "folder").iterdir())


def test_leftovers_of_a_kill_are_removed(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / ".fastgan-0123456789abcdef.tmp").write_text("half")
    (tmp_path / "model" / "mine.tmp").write_text("mine")
    remove_temp_files(tmp_path)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["mine.tmp"]


# --- what is no regular file


def test_links_stay_and_lead_to_the_new_content(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "old.json").write_text("old")
    for name in ("old.json", "new.json"):
        link = tmp_path / name
        link.symlink_to(Path("store", name))
        (tmp_path / "links").mkdir(exist_ok=True)
        (tmp_path / "links" / name).symlink_to(Path("..", name))
        write_text(tmp_path / "links" / name, f"content of {name}")
        assert link.is_symlink() and (tmp_path / "links" / name).is_symlink()
    assert contents(tmp_path / "store") == {name: f"content of {name}".encode() for name in ("old.json", "new.json")}


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("pipe")
    with open_pipe(tmp_path / "pipe") as read_now:
        for name in ("pipe", "link"):
            write_text(tmp_path / name, "x" * 200_000)
            assert read_now() == b"x" * 200_000
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and not contents(tmp_path).keys() - {"pipe", "link"}


def test_a_device_is_written_into(tmp_path: Path) -> None:
    """A terminal, since its folder is one where no file can be put in its place, whoever runs the test."""
    ours, terminal = os.openpty()
    name = Path(os.ttyname(terminal))
    (tmp_path / "link").symlink_to(name)
    for path in (name, tmp_path / "link"):
        write_text(path, "line\n")
        assert os.read(ours, 100) == b"line\r\n"
    assert stat.S_ISCHR(name.stat().st_mode) and (tmp_path / "link").is_symlink()
    for descriptor in (ours, terminal):
        os.close(descriptor)


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_standard_output_by_name(tmp_path: Path, kind: str) -> None:
    """After what was printed before and before what is printed after, though it be a file."""
    link = tmp_path / "stdout"
    link.symlink_to("/proc/self/fd/1")
    lines = ["import sys", "from pathlib import Path", "from fastgan.utils.files import write_text", "print('one')"]
    lines += ["for name in sys.argv[1:]: write_text(Path(name), 'two\\n')", "print('three')"]
    command = [sys.executable, "-c", "\n".join(lines), "/dev/stdout", "/dev/fd/1", str(link)]
    with (tmp_path / "file").open("wb") as file:
        output = file if kind == "file" else subprocess.PIPE
        done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, check=True, timeout=300)
    text = (tmp_path / "file").read_bytes() if kind == "file" else done.stdout
    assert text == b"one\ntwo\ntwo\ntwo\nthree\n" and link.is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"file", "stdout"}


def test_what_can_only_be_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    (tmp_path / "loop").symlink_to("loop")
    for name, reason in (("socket", "it is a socket"), ("loop", "Too many levels of symbolic links")):
        with pytest.raises(InputError) as caught:
            write_text(Path(name), "x")
        assert str(caught.value) == f"{name}: cannot be written ({reason})"
    assert stat.S_ISSOCK(Path("socket").stat().st_mode) and Path("loop").is_symlink()


def test_the_operating_system_is_heard_through_torch(tmp_path: Path) -> None:
    """torch's zip writer tells a full disk as "unexpected pos"."""

    class FullDisk(io.BytesIO):
        def write(self, content: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write(file: BinaryIO) -> None:
        torch.save({"x": torch.ones(10)}, FullDisk())

    with pytest.raises(InputError, match=r"model\.pt: cannot be written \(No space left on device\)"):
        atomic_write(tmp_path / "model.pt", write)
    assert contents(tmp_path) == {}


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("mine")
    for name in ("file", "file/below"):
        with pytest.raises(InputError) as caught:
            make_folder(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: cannot be created (")


# --- reading


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    """A pipe would be waited for, and /dev/zero has no end."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    says = {"pipe": "is a pipe, not", "zero": "is a device, not", "folder": "is a folder, not", "none": "no such file"}
    says["nul\0"] = "null byte"
    for name, reason in says.items():
        for read in (open_regular, lambda path: read_bytes(path, 10), read_json):
            with pytest.raises(InputError) as caught:
                read(tmp_path / name)
            assert str(caught.value).startswith(f"{tmp_path / name}: ") and reason in str(caught.value)
    assert read_bytes(tmp_path / "link", 7) == b"content"
    with pytest.raises(InputError, match="file: too large; at most 6 bytes are read"):
        read_bytes(tmp_path / "file", 6)


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b'{"a":' * 100_000, b"NaN", b"[-Infinity]", b"\xff", b"", b"{", b"1" * 5000],
    ids=["lists", "objects", "nan", "infinity", "no text", "empty", "cut", "digits"],
)
def test_json_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_json(tmp_path / "a.json")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'a.json'}: not readable as JSON (") and "\n" not in message
    (tmp_path / "a.json").write_text('{"a": [1, 2.5, null]}')
    assert read_json(tmp_path / "a.json") == {"a": [1, 2.5, None]}
