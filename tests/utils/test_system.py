"""The machine and the process."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fastgan.utils.system import PeakMemory, git_commit, installed_version, machine_name

CPU = torch.device("cpu")


def test_machine_name() -> None:
    assert machine_name(CPU).strip()


def test_peak_memory_sees_what_was_held_and_can_begin_again() -> None:
    """In a process of its own, whose peak is not far above what it holds."""
    code = """
import torch
from fastgan.utils.system import peak_memory_bytes, reset_peak_memory
cpu, size = torch.device("cpu"), 512 << 20
before = peak_memory_bytes(cpu)
held = torch.ones(size // 4)
during = peak_memory_bytes(cpu)
del held
after = peak_memory_bytes(cpu)
reset_peak_memory(cpu)
print(before, during, after, peak_memory_bytes(cpu))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, during, after, reset = map(int, done.stdout.split())
    assert before > 30 << 20, "torch is loaded"
    assert min(during, after) >= before + (256 << 20)
    assert 0 < reset <= after


def test_peak_memory_of_steps_is_read_in_every_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([5, 7, 9])
    monkeypatch.setattr("fastgan.utils.system.peak_memory_bytes", lambda device: next(readings))
    peak = PeakMemory(CPU)
    assert [peak() for _ in range(21)] == [5] * 10 + [7] * 10 + [9]


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
