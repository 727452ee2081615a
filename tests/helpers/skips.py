"""Pytest plugin that counts skipped tests by what they need, and fails a run whose skips are not explained.

A skip is explained if ``helpers.machine`` gave its reason and the need is unmet here. With ``FASTGAN_TESTS_COMPLETE=1``
all packages are said to be installed, and only hardware (or what an older torch lacks) may be missing.
"""

import os
import sys
from typing import Any

import pytest
from helpers.machine import PLATFORM, count_skips

#: Why tests were skipped; those of other processes are reported here, too.
REASONS = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[REASONS] = []
    config.pluginmanager.register(_Watch(config.stash[REASONS]))


class _Watch:
    """Sees every report, whether a plugin prints them or none does."""

    def __init__(self, reasons: list[str]) -> None:
        self.reasons = reasons

    def note(self, report: Any) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self.reasons.append(report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.note(report)


def _faults(config: pytest.Config) -> list[str]:
    counts, unexplained = count_skips(config.stash[REASONS])
    faults = [f"a test was skipped without an unmet need of helpers/machine.py: {reason}" for reason in unexplained]
    if os.environ.get("FASTGAN_TESTS_COMPLETE") == "1":
        missing = sorted(set(counts) - PLATFORM)
        faults += [f"FASTGAN_TESTS_COMPLETE=1, yet {counts[need]} tests lack {need}" for need in missing]
    return faults


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    faults = [] if hasattr(session.config, "workerinput") else _faults(session.config)
    if faults and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if faults and not session.config.pluginmanager.has_plugin("terminalreporter"):
        print(*faults, sep="\n", file=sys.stderr)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    counts, _ = count_skips(config.stash[REASONS])
    faults = _faults(config)
    if counts or faults:
        terminalreporter.section("skipped, by what this machine lacks")
    for need, count in sorted(counts.items()):
        terminalreporter.line(f"{count:5} {need}")
    for fault in faults:
        terminalreporter.line(f"ERROR {fault}", red=True)
