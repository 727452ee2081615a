"""Fixtures of the command line's tests: running it, and a model that it has trained."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from helpers.command_line import Command, Result
from helpers.tiny_runs import TINY

from fastgan.cli import main

# What is printed is looked at: as to a file, 80 columns wide, whatever terminal or service the tests run in.
os.environ["COLUMNS"] = "80"
for name in ("FORCE_COLOR", "CLICOLOR_FORCE", "PY_COLORS", "GITHUB_ACTIONS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
    os.environ.pop(name, None)


@pytest.fixture
def fastgan(capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Runs one command line in this process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def run(*arguments: object) -> Result:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return Result(code, *capfd.readouterr())

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fields of a tiny run as a file for --config."""
    nested: dict[str, object] = {}
    for name, value in TINY.items():
        section = nested
        *path, last = name.split(".")
        for part in path:
            section = section.setdefault(part, {})  # type: ignore[assignment]
        section[last] = value
    file = tmp_path_factory.mktemp("settings") / "tiny.yaml"
    file.write_text(yaml.safe_dump(nested))
    return file


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, photos: Path, style_file: Path, settings: Path) -> Path:
    """A run folder that the command made."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    out = tmp_path_factory.mktemp("trained") / "run"
    arguments = ["train", "--content", photos, "--style", style_file, "--out", out, "--config", settings]
    try:
        assert main([str(argument) for argument in arguments]) == 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return out
