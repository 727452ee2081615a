"""``fastgan info``, ``--version``, ``--help``."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.command_line import Command

import fastgan as package

ROOT = Path(__file__).resolve().parents[2]


def test_json(fastgan: Command) -> None:
    done = fastgan("info", "--json")
    assert done.code == 0 and done.err == ""
    facts = json.loads(done.out)
    assert facts["fastgan"] == package.__version__ and facts["torch"] == torch.__version__
    assert facts["cpu"]["threads"] == torch.get_num_threads() and isinstance(facts["cpu"]["bf16"], bool)
    assert len(facts["gpus"]) == (torch.cuda.device_count() if torch.cuda.is_available() else 0)
    rows = {(row["op"], row["device"]): row for row in facts["ops"]["ops"]}
    assert {op for op, _ in rows} >= {"ssim", "psnr", "gram", "gram_style_loss", "instance_norm", "from_pixels"}
    for row in rows.values():
        assert row["gradient"] in [backend["name"] for backend in row["backends"]]
        assert all(backend["reason"] for backend in row["backends"])
    assert "unavailable" in facts["extension"] or "version" in facts["extension"]


def test_text(fastgan: Command) -> None:
    done = fastgan("info")
    assert done.code == 0 and f"fastgan {package.__version__}" in done.out and torch.__version__ in done.out
    assert all(word in done.out for word in ("ssim", "reference", "extension", "CPU"))


def test_a_missing_extension_is_explained(fastgan: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastgan.ops import _native

    monkeypatch.setattr(_native, "_loaded", (None, "is not available: fastgan._C is not built"))
    facts = json.loads(fastgan("info", "--json").out)
    assert "not built" in facts["extension"]["unavailable"]
    (ssim,) = [row for row in facts["ops"]["ops"] if (row["op"], row["device"]) == ("ssim", "cpu")]
    assert ssim["forward"] == "reference"
    assert any("not built" in backend["reason"] for backend in ssim["backends"])
    assert "not built" in fastgan("info").out


@pytest.mark.parametrize(
    ("capability", "archs", "answer"),
    [
        ((9, 0), ["80", "90", "100", "120"], "sm_90"),
        ((8, 6), ["80", "90"], "sm_80"),
        ((10, 3), ["80", "90", "100", "120"], "sm_100"),
        ((9, 0), ["80", "90a"], "sm_90a"),
        ((12, 1), ["80", "120"], "sm_120"),
        ((13, 0), ["80", "120"], "PTX of compute_120"),
        ((10, 0), ["80", "90a"], "PTX of compute_90"),
        ((10, 1), ["100a", "120"], "none: built for 100a, 120; FASTGAN_CUDA_ARCHS=101"),
        ((7, 5), ["80", "90"], "none: built for 80, 90; FASTGAN_CUDA_ARCHS=75"),
        ((9, 0), [], "none: the extension is built without CUDA kernels"),
    ],
)
def test_what_a_gpu_runs(capability: tuple[int, int], archs: list[str], answer: str) -> None:
    from fastgan.cli.info import kernels_for

    assert kernels_for(capability, archs).startswith(answer)


def test_version_and_help(fastgan: Command) -> None:
    done = fastgan("--version")
    assert done.code == 0 and done.out == f"fastgan {package.__version__}\n"
    for arguments in ((), ("--help",)):
        done = fastgan(*arguments)
        assert done.code == 0 and all(name in done.out for name in ("train", "stylize", "evaluate", "info"))
    done = fastgan("train", "--help")
    assert done.code == 0 and "--target-ssim" in done.out


def test_as_a_module() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "fastgan"]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, env=environment, cwd="/")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"fastgan {package.__version__}\n", "")
    done = subprocess.run([*command, "train"], capture_output=True, text=True, env=environment, cwd="/")
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1 and "--out" in done.stderr
