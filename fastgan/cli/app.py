"""The commands together, and how their errors reach the user."""

from __future__ import annotations

import errno
import re
import sys
import warnings

import typer

from fastgan.cli.bench import bench
from fastgan.cli.commands import COMMANDS, register_command
from fastgan.cli.evaluate import evaluate
from fastgan.cli.generate import generate
from fastgan.cli.info import info
from fastgan.cli.profile import profile
from fastgan.cli.stylize import stylize
from fastgan.cli.train import train
from fastgan.errors import FastganError, InputError
from fastgan.version import __version__

#: Matches the RuntimeErrors of torch's allocators, on CPU and on GPU.
_OUT_OF_MEMORY = re.compile(r"can't allocate memory|out of memory", re.IGNORECASE)
#: Arguments that a message of the library begins with and that are options here.
_ARGUMENT = re.compile(r"^(content|features|out|precision|style)(?=[ :])")

app = typer.Typer(
    name="fastgan",
    help="Train GAN image style transfer fast, to an image quality you name.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (train, stylize, generate, evaluate, bench, profile, info):
    app.command()(register_command(command))


def _version(value: bool) -> None:
    if value:
        typer.echo(f"fastgan {__version__}")
        raise typer.Exit


@app.callback()
def _options(version: bool = typer.Option(False, "--version", callback=_version, is_eager=True)) -> None:
    pass


def run(arguments: list[str]) -> int:
    """Run one command line. Bad input: one line on stderr and 2. A run that diverged: one line and 1."""
    # Pillow warns of odd metadata in files that it can read; broken files are reported as such.
    warnings.filterwarnings("ignore", module="PIL")
    try:
        _add_plugin_commands()
        result = app(arguments or ["--help"], standalone_mode=False)
        return result if isinstance(result, int) else 0
    except typer.Exit as stop:
        return stop.exit_code
    except typer.TyperException as error:
        return _fail(error.format_message(), 2)
    except (typer.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)
    except InputError as error:
        return _fail(_as_options(str(error)), 2)
    except FastganError as error:
        return _fail(_as_options(str(error)), 1)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _OUT_OF_MEMORY.search(str(error)):
            raise
        return _fail(
            "not enough memory; lower --size or --batch in train, --count in generate, give --tile in stylize", 2
        )
    except OSError as error:
        if "temporary directory" in str(error):  # torch and matplotlib need one, or their own variables
            return _fail(f"{error.strerror or error}; set TMPDIR to a folder that can be written to", 2)
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EPERM):
            raise
        return _fail(f"{error.filename or 'a file'}: cannot be written ({error.strerror})", 2)


def _add_plugin_commands() -> None:
    known = {command.callback for command in app.registered_commands}
    for command in COMMANDS.values():
        if command not in known:
            app.command()(command)


def _as_options(text: str) -> str:
    """A message of the library, which names arguments as in Python, with the options of those names."""
    text = _ARGUMENT.sub(r"--\1", text)
    text = re.sub(r"\b(add|use) resume=True\b", r"\1 --resume", text)
    return re.sub(r"\buse (?:train\.)?(task|precision)=(?=\w)", r"use --\1 ", text)


def _fail(message: str, code: int) -> int:
    print(f"fastgan: {' '.join(message.split())}", file=sys.stderr)
    return code
