"""Short texts and numbers for output."""

import os
import subprocess
from pathlib import Path

import pytest
import torch

from fastgan.utils.format import dtype_name, printable, round_significant, shell_quoted


def test_dtype_name() -> None:
    assert [dtype_name(dtype) for dtype in (torch.float32, torch.bfloat16, torch.uint8)] == [
        "float32",
        "bfloat16",
        "uint8",
    ]


@pytest.mark.parametrize(
    "value,digits,rounded",
    [(0.0, 5, 0.0), (1234.56, 4, 1235.0), (0.0012345678, 3, 0.00123), (-98765.4, 2, -99000.0), (9.996, 3, 10.0)],
)
def test_round_significant(value: float, digits: int, rounded: float) -> None:
    assert round_significant(value, digits) == rounded


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b é日本", "a b é日本"),
        ("new\nline\ttab\r", r"new\nline\ttab\r"),
        ("\x1b[31mred\x07\x9b", r"\x1b[31mred\x07\x9b"),
        ("caf\udce9", r"caf\udce9"),
        ("a\u202eb\u2028", r"a\u202eb\u2028"),
        (Path("x/y.png"), "x/y.png"),
        ("", ""),
    ],
)
def test_printable(text: object, shown: str) -> None:
    assert printable(text) == shown and shown.isprintable()


NAMES = (
    "a b",
    "-dash",
    "semi;$(x)",
    "q'u\"o",
    "new\nline",
    "\x1b[31m\\'x",
    "caf\udce9 é",
    "a\u202e1",
    "é日本",
    "~",
    "*",
    "",
)


@pytest.mark.parametrize("name", NAMES)
def test_shell_quoted(name: str) -> None:
    """Pasted into a shell it is the name again, byte by byte, and nothing in it acts on a terminal."""
    quoted = shell_quoted(name)
    assert quoted.isprintable()
    done = subprocess.run(["bash", "-c", f"printf %s {quoted}"], capture_output=True, check=True)
    assert done.stdout == os.fsencode(name if not name.startswith("-") else f"./{name}")
