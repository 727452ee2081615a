"""Triton kernels on CPU tensors, in Triton's interpreter: `TRITON_INTERPRET=1 pytest tests/interpreted`.

The variable must stand before Triton is imported, so these have a process of their own; tests/ops/test_triton.py starts
one for each file.
"""

import os

import pytest

if os.environ.get("TRITON_INTERPRET") != "1":
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def _poisoned(poisoned: None) -> None:
    """Show elements that a kernel leaves unwritten."""
