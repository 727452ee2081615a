"""The machine and the process."""

import subprocess
from pathlib import Path

import pytest
import torch

from fastgan.utils.system import git_commit, installed_version, machine_name, peak_memory_bytes, reset_peak_memory

CPU = torch.device("cpu")


def test_machine_name() -> None:
    assert machine_name(CPU).strip()


def test_peak_memory_sees_what_was_held_and_can_begin_again() -> None:
    before = peak_memory_bytes(CPU)
    assert before > 30 << 20  # torch is loaded
    held = torch.ones(before // 4)  # as much again
    assert peak_memory_bytes(CPU) >= 2 * before - (8 << 20)
    del held
    reset_peak_memory(CPU)
    assert peak_memory_bytes(CPU) > 0


def test_installed_version() -> None:
    assert installed_version("pytest") == pytest.__version__
    assert installed_version("a-package-that-nobody-has") is None


def test_git_commit(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    commit = git_commit(tmp_path)
    assert commit is not None and head.startswith(commit) and len(commit) == 12
