"""Checkpoints: written whole or not at all, the newest kept, damaged ones passed over."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fastgan.training.checkpoint import list_checkpoints, load_newest, save_checkpoint


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


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
    elif how == "pipe":
        path.unlink()
        os.mkfifo(path)
    elif how == "endless":
        path.unlink()
        path.symlink_to("/dev/zero")
    elif how == "text":
        path.write_bytes(b"text\nof two lines")
    else:
        torch.save({"code": os.system}, path)  # a pickle that calls something


@pytest.mark.parametrize("how", ["cut", "empty", "text", "pickle", "pipe", "endless"])
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
