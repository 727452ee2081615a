"""The options that ``fastgan bench`` and ``python -m fastgan.bench`` share."""

import inspect
from pathlib import Path

import pytest
import typer

from fastgan.bench import options
from fastgan.bench.run import bench
from fastgan.cli.app import app


def test_both_command_lines_have_the_parameters_of_bench() -> None:
    parameters = inspect.signature(bench).parameters
    assert {"suite", *(option.name for option in options.OPTIONS)} == set(parameters)
    command = typer.main.get_command(app).commands["bench"]  # type: ignore[attr-defined]
    assert {parameter.name for parameter in command.params} == set(parameters)
    flags = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    assert {option.flag for option in options.OPTIONS} | {"--no-compile"} == flags - {"suite"}


def test_defaults_are_those_of_bench() -> None:
    defaults = {name: parameter.default for name, parameter in inspect.signature(bench).parameters.items()}
    assert options.parse([]) == {**defaults, "only": []}


@pytest.mark.parametrize(
    "arguments,name,value",
    [
        (["ops"], "suite", "ops"),
        (["--json", "x.json"], "json_file", Path("x.json")),
        (["--only", "ssim, psnr,"], "only", ["ssim", "psnr"]),
        (["--compile"], "compiled", True),
        (["--no-compile"], "compiled", False),
        (["--quick"], "quick", True),
    ],
)
def test_values(arguments: list[str], name: str, value: object) -> None:
    assert options.parse(arguments)[name] == value
