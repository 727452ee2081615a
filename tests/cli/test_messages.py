"""Warnings of the library reach the user of the command line, on one printable line each, and once."""

import logging

import pytest

from fastgan.cli.messages import warnings_on_stderr


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
