"""A program that uses the package passes mypy, without a cast."""

import os
import subprocess
import sys
from pathlib import Path

from helpers.machine import needs
from helpers.source import PACKAGE
from helpers.waiting import HANG

PROGRAM = """
from typing import assert_type

import numpy as np
import torch
from PIL import Image

import fastgan


def use(photo: Image.Image, pixels: np.ndarray, x: torch.Tensor) -> None:
    model = fastgan.load("run")
    assert_type(model(photo, strength=0.5, tile=512), Image.Image)
    assert_type(model(x), torch.Tensor)
    code = model.code(photo)
    assert_type(model(pixels, code=code), np.ndarray)
    print(model.generate(16), model.device, "reached")
    if isinstance(model, fastgan.inference.Stylizer):
        print(model.min_tile + 1)


def fail() -> None:
    raise fastgan.errors.InputError("no")


print(fastgan.config.load_config(), fastgan.data.list_images("x"), fastgan.precision.select_device("cpu"))
"""
#: Errors within the package are those of `make lint`.
CONFIG = "[mypy]\nfollow_imports = silent\nwarn_unreachable = true\n"


@needs("the package mypy")
def test_a_loaded_model_is_used_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "mypy.ini").write_text(CONFIG)
    checkout = {} if "site-packages" in PACKAGE.parts else {"MYPYPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", "cache", "program.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **checkout}, capture_output=True, text=True, timeout=HANG
    )
    assert done.returncode == 0, done.stdout + done.stderr
