"""Pytest plugin that counts skipped tests by what they need, and fails a run whose skips are not explained.

A skip is explained if ``helpers.machine`` gave its reason and the need is unmet here. With ``FASTGAN_TESTS_COMPLETE=1``
all packages are said to be installed, and only hardware (or what an older torch lacks) may be missing.
"""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.machine import PLATFORM, count_skips


def _reasons(config: pytest.Config) -> Iterator[str]:
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    for report in reporter.stats.get("skipped", []) if reporter is not None else ():
        yield report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)


def _faults(config: pytest.Config) -> list[str]:
    counts, unexplained = count_skips(_reasons(config))
    faults = [f"a test was skipped without an unmet need of helpers/machine.py: {reason}" for reason in unexplained]
    if os.environ.get("FASTGAN_TESTS_COMPLETE") == "1":
        missing = sorted(set(counts) - PLATFORM)
        faults += [f"FASTGAN_TESTS_COMPLETE=1, yet {counts[need]} tests lack {need}" for need in missing]
    return faults


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if (
        not hasattr(session.config, "workerinput")
        and _faults(session.config)
        and session.exitstatus == pytest.ExitCode.OK
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    counts, _ = count_skips(_reasons(config))
    faults = _faults(config)
    if counts or faults:
        terminalreporter.section("skipped, by what this machine lacks")
    for need, count in sorted(counts.items()):
        terminalreporter.line(f"{count:5} {need}")
    for fault in faults:
        terminalreporter.line(f"ERROR {fault}", red=True)
