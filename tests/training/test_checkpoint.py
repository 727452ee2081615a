"""Files written whole or not at all, and the checkpoints among them."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from fastgan.errors import InputError
from fastgan.training.checkpoint import list_checkpoints, load_newest, save_checkpoint
from fastgan.utils.files import atomic_write, remove_temp_files, write_text

ROOT = Path(__file__).resolve().parents[2]


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


def test_full_disk(tmp_path: Path) -> None:
    """A real failure of the operating system half way through a checkpoint: the file size limit of a process."""
    code = """
import resource, sys
from pathlib import Path
import torch
from fastgan.training.checkpoint import save_checkpoint
from fastgan.utils.files import write_text
from fastgan.errors import InputError
folder = Path(sys.argv[1])
save_checkpoint(folder, 1, {"x": torch.ones(1000)}, 5)
write_text(folder / "t.json", "old")
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
told = []
for write in (lambda: save_checkpoint(folder, 1, {"x": torch.zeros(100_000)}, 5),
              lambda: save_checkpoint(folder, 2, {"x": torch.zeros(100_000)}, 5),
              lambda: write_text(folder / "t.json", "x" * 200_000)):
    try:
        write()
    except InputError as error:
        told.append(str(error))
print(len(told), *told, sep="\\n")
"""
    folder = tmp_path / "checkpoints"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    count, *told = done.stdout.splitlines()
    assert count == "3" and len(told) == 3 and all("cannot be written" in line for line in told)
    assert sorted(contents(folder)) == ["step-00000001.pt", "t.json"]
    assert torch.load(folder / "step-00000001.pt", weights_only=True)["x"].sum() == 1000
    assert (folder / "t.json").read_text() == "old"


def test_keep_the_newest(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    (tmp_path / "checkpoints").mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "step-1.pt").write_text("not ours")
    for step in (5, 10, 99_999_999, 15):
        assert save_checkpoint(folder, step, {"step": step}, keep=2).is_file()
    # A step past the one just written is of a past that was taken back.
    assert [step for step, _ in list_checkpoints(folder)] == [10, 15]
    assert (folder / "notes.txt").exists() and (folder / "step-1.pt").exists()


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_bytes(b"text\nof two lines")
    else:
        torch.save({"code": os.system}, path)  # a pickle that calls something


@pytest.mark.parametrize("how", ["cut", "empty", "text", "pickle"])
def test_a_damaged_checkpoint_is_passed_over_by_name(tmp_path: Path, how: str) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, {"step": step, "x": torch.ones(1000) * step}, keep=5)
    damage(tmp_path / "step-00000003.pt", how)
    bad: list[tuple[Path, str]] = []
    found: tuple[Path, dict[str, Any]] | None = load_newest(tmp_path, lambda path, reason: bad.append((path, reason)))
    assert found is not None and found[0].name == "step-00000002.pt" and found[1]["x"][0] == 2
    assert [path.name for path, _ in bad] == ["step-00000003.pt"]
    assert bad[0][1] and "\n" not in bad[0][1]


def test_nothing_to_load(tmp_path: Path) -> None:
    bad: list[Path] = []
    assert load_newest(tmp_path / "none", lambda path, _: bad.append(path)) is None and bad == []
    save_checkpoint(tmp_path, 1, {}, keep=1)
    damage(tmp_path / "step-00000001.pt", "cut")
    assert load_newest(tmp_path, lambda path, _: bad.append(path)) is None
    assert [path.name for path in bad] == ["step-00000001.pt"]


def test_leftovers_of_a_kill_are_removed(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / ".fastgan-0123456789abcdef.tmp").write_text("half")
    (tmp_path / "model" / "mine.tmp").write_text("mine")
    remove_temp_files(tmp_path)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["mine.tmp"]
