"""The options of ``fastgan bench`` and of ``python -m fastgan.bench``, which has torch alone."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastgan.utils.json_output import JSON_HELP, fill_in_stdout


@dataclass(frozen=True)
class Option:
    """A parameter of ``fastgan.bench.run.bench``: a name, a type (``str``, ``Path`` or ``bool``) and its help.

    A ``bool`` whose default is None has a ``--no-`` form too.
    """

    name: str
    flag: str
    type: type
    default: str | bool | None
    help: str
    metavar: str | None = None


SUITES = ("ops", "train", "infer", "loader", "all")
SUITE_HELP = "The benchmark to run."
SUITE_METAVAR = f"[{'|'.join(SUITES)}]"

OPTIONS = (
    Option("device", "--device", str, "cpu", "cpu or cuda."),
    Option("json_file", "--json", Path, None, JSON_HELP),
    Option("report", "--report", Path, None, "A folder for bench.html and bench.json."),
    Option(
        "compare",
        "--compare",
        Path,
        None,
        "Compare the medians with this older result: a file of --json or a folder of --report.",
    ),
    Option("quick", "--quick", bool, False, "Tiny sizes and two rounds, to see whether it works."),
    Option("only", "--only", str, "", "Only these ops (of bench loader: loaders).", "NAME,..."),
    Option("tune", "--tune", bool, False, "First time every configuration of the Triton kernels; keep the fastest."),
    Option("compiled", "--compile", bool, None, "With torch.compile; the default unless --quick."),
)


def split_names(text: str) -> list[str]:
    """The names in a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def parse(arguments: list[str] | None = None) -> dict[str, Any]:
    """Parse a command line with argparse: the keywords of ``fastgan.bench.run.bench``."""
    parser = argparse.ArgumentParser(prog="python -m fastgan.bench")
    filled = fill_in_stdout(sys.argv[1:] if arguments is None else arguments)
    parser.add_argument("suite", nargs="?", default="all", metavar=SUITE_METAVAR, help=SUITE_HELP)
    for option in OPTIONS:
        settings: dict[str, Any] = {"dest": option.name, "default": option.default, "help": option.help}
        if option.type is not bool:
            settings |= {"type": option.type, "metavar": option.metavar}
        elif option.default is None:
            settings["action"] = argparse.BooleanOptionalAction
        else:
            settings["action"] = "store_true"
        parser.add_argument(option.flag, **settings)
    values = vars(parser.parse_args(filled))
    return {**values, "only": split_names(values["only"])}
