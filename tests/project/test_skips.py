"""Skipped tests are counted, and a skip that nothing explains fails the run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import machine

TESTS = Path(__file__).resolve().parents[1]
NEEDS_A_PACKAGE = """
from helpers.machine import needs, require

@needs("the package there_is_no_such_package")
def test_marked(): ...

def test_within():
    require("the package there_is_no_such_package")

def test_runs(): ...
"""


def run(folder: Path, text: str, *options: str, **environment: str) -> tuple[int, str]:
    file = folder / "test_some.py"
    file.write_text(text)
    plugins = ("-p", "no:cacheprovider", "-p", "helpers.skips")
    command = [sys.executable, "-m", "pytest", *plugins, *options, str(file)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "FASTGAN_TESTS"))}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(TESTS), **environment},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def test_an_unmet_need_is_counted_and_passes(tmp_path: Path) -> None:
    code, output = run(tmp_path, NEEDS_A_PACKAGE)
    assert code == 0 and "    2 the package there_is_no_such_package" in output, output


def test_where_all_is_installed_it_fails(tmp_path: Path) -> None:
    code, output = run(tmp_path, NEEDS_A_PACKAGE, FASTGAN_TESTS_COMPLETE="1")
    assert code == 1 and "2 tests lack the package there_is_no_such_package" in output, output


def test_another_reason_fails_the_run(tmp_path: Path) -> None:
    skips = [
        "pytest.skip('not today')",
        "pytest.skip('needs nothing that is known: really')",
        "pytest.skip('needs no GPU, or so it says')",
        "pytest.importorskip('there_is_no_such_package')",
    ]
    tests = [f"def test_{number}():\n    {skip}\n" for number, skip in enumerate(skips)]
    code, output = run(tmp_path, "\n".join(["import pytest\n", *tests, "def test_runs(): ...\n"]))
    assert code == 1 and "1 passed, 4 skipped" in output, output
    assert output.count("a test was skipped without an unmet need") == len(skips), output


@pytest.mark.parametrize("options", [("-p", "no:terminal"), ("-n", "2")], ids=["no reporter", "two processes"])
def test_whatever_reports_the_run(tmp_path: Path, options: tuple[str, ...]) -> None:
    code, output = run(tmp_path, NEEDS_A_PACKAGE, *options)
    assert code == 0, output
    code, output = run(tmp_path, NEEDS_A_PACKAGE + "\ndef test_skip():\n    __import__('pytest').skip('so')", *options)
    assert code == 1 and "a test was skipped without an unmet need of helpers/machine.py: Skipped: so" in output, output


def test_a_need_that_is_met_explains_no_skip() -> None:
    met = next(need for need in machine.NEEDS if machine.absence(need) is None)
    unmet = "the package there_is_no_such_package"
    counts, unexplained = machine.count_skips([f"Skipped: needs {met}: it is missing", f"needs {unmet}: it is missing"])
    assert counts == {unmet: 1} and unexplained == [f"Skipped: needs {met}: it is missing"]


def test_every_need_has_an_answer_here() -> None:
    for need in machine.NEEDS:
        reason = machine.absence(need)
        assert reason is None or (isinstance(reason, str) and reason), need
    assert set(machine.NEEDS) >= machine.PLATFORM
    assert (machine.absence("a GPU") is None) != (machine.absence("no GPU") is None)
