"""Files written whole or not at all."""

from pathlib import Path
from typing import BinaryIO

import pytest

from fastgan.errors import InputError
from fastgan.utils.files import atomic_write, remove_temp_files, write_text


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
