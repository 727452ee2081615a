"""Some cases of ``tools/fuzz_models.py``: models of strangers are refused in one line, or make a picture."""

import os
import re
import subprocess
import sys

import pytest
from helpers.source import ROOT


@pytest.mark.slow
def test_cases_of_the_fuzzer() -> None:
    """Three of each change, of one seed."""
    command = [sys.executable, str(ROOT / "tools" / "fuzz_models.py"), "--seed", "14", "--cases", "27"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = re.fullmatch(
        r"seed 14: (\d+) cases were refused in one line, (\d+) made a picture, 0 findings\n", done.stdout
    )
    assert counts and min(map(int, counts.groups())) > 0 and sum(map(int, counts.groups())) == 27
