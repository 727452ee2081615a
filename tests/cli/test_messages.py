"""Lines on stderr: printable, once each, and nothing that ends a command where stderr is gone."""

import io
import logging
import sys

import pytest

from fastgan.cli.messages import print_line, warnings_on_stderr


def test_warnings_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    logger, own = logging.getLogger("fastgan"), logging.getLogger("fastgan.with_handlers")
    own.addHandler(logging.NullHandler())
    before = list(logger.handlers)
    with warnings_on_stderr():
        logger.warning("%s: passed over", "a\nb\x1b[31m.png")
        logging.getLogger("fastgan.data").warning("of a part")
        logging.getLogger("fastgan.with_handlers.below").warning("shown elsewhere")
        logger.info("not a warning")
    logger.info("not a warning")
    assert capsys.readouterr().err == "fastgan: a\\nb\\x1b[31m.png: passed over\nfastgan: of a part\n"
    assert logger.handlers == before


def test_stderr_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Gone())
    print_line("a line")
    with warnings_on_stderr():
        logging.getLogger("fastgan").warning("a line")
