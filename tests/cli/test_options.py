"""Options that several commands have are told alike in their help."""

import pytest
from helpers.command_line import Command


@pytest.mark.parametrize("command", ["stylize", "generate", "evaluate", "bench", "info"])
def test_help_of_the_others(fastgan: Command, command: str) -> None:
    done = fastgan(command, "--help")
    assert done.code == 0 and "--help" in done.out and done.err == ""
    if command in ("stylize", "generate", "evaluate"):
        assert "auto, fp32, bf16 or fp16." in " ".join(done.out.split()) and "[default: auto]" in done.out
    if command in ("evaluate", "bench", "info"):
        assert "- or nothing: to standard output" in " ".join(done.out.split())
