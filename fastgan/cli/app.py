"""The commands together, and how their errors reach the user."""

from __future__ import annotations

import errno
import io
import re
import signal
import sys
import warnings

import typer

from fastgan.cli.bench import bench
from fastgan.cli.commands import COMMANDS, register_command
from fastgan.cli.evaluate import evaluate
from fastgan.cli.failures import lost_output, memory_line
from fastgan.cli.generate import generate
from fastgan.cli.help import TrainingCommand
from fastgan.cli.info import info
from fastgan.cli.messages import print_line, warnings_on_stderr
from fastgan.cli.profile import profile
from fastgan.cli.stylize import MEMORY_ADVICE, stylize
from fastgan.cli.train import FIELDS, train
from fastgan.errors import FastganError, InputError
from fastgan.utils.json_output import fill_in_stdout
from fastgan.utils.memory import is_out_of_memory
from fastgan.utils.signals import Interrupted, interruptible
from fastgan.version import __version__

#: Arguments that a message of the library begins with and that are options here.
_ARGUMENT = re.compile(r"^(content|features|out|precision|style)(?=[ :])")
#: A field that a message of the library asks for.
_SETTING = re.compile(r"\b(add|give|or|use|with) (task|precision|[a-z]\w*(?:\.[a-z]\w*)+)=(?=\w)")
#: The options of those that have one.
_OPTIONS = {field: f"--{name.replace('_', '-')}" for name, field in FIELDS.items()} | {"precision": "--precision"}
_OWN = (train, stylize, generate, evaluate, bench, profile, info)
#: What helps against too little memory, command by command.
_MEMORY_ADVICE = {
    train.__name__: "lower --size or --batch",
    profile.__name__: "lower --size or --batch",
    stylize.__name__: MEMORY_ADVICE,
    generate.__name__: "lower --count",
}
_REFUSALS = (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EPERM)

app = typer.Typer(
    name="fastgan",
    help="Train GAN image style transfer fast, to an image quality you name.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # markup swallows what stands in brackets
)
for command in _OWN:
    app.command(cls=TrainingCommand if command in (train, profile) else None)(register_command(command))


def _version(value: bool) -> None:
    if value:
        print(f"fastgan {__version__}")
        raise typer.Exit


@app.callback()
def _options(version: bool = typer.Option(False, "--version", callback=_version, is_eager=True)) -> None:
    pass


def run(arguments: list[str]) -> int:
    """Run one command line; its exit code. Where that is not 0, one line on stderr says why.

    0: done. 1: a run, a gate or a check failed. 2: bad input, and nothing is done. 3: done, but for some items, which
    are named. 128 + n: ended by the signal n.
    """
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal's encoding lacks is no reason to fail
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Pillow warns of odd metadata in files that it can read; broken files are reported as such.
    warnings.filterwarnings("ignore", module="PIL")
    try:
        with interruptible(), warnings_on_stderr():
            code = _run(arguments)
    except Interrupted as stop:
        return _fail(str(stop), stop.exit_code)
    try:
        sys.stdout.flush()
    except OSError as error:
        complaint, lost = lost_output(error)
        return code or _fail(complaint, lost)
    return code


def _run(arguments: list[str]) -> int:
    broken_plugin = _add_plugin_commands()
    name = arguments[0] if arguments else ""
    if name in [command.__name__ for command in _OWN]:  # --json of a plugin's command may be a flag
        arguments = fill_in_stdout(arguments)
    try:
        result = app(arguments or ["--help"], standalone_mode=False)
        code = result if isinstance(result, int) else 0
    except typer.Exit as stop:
        code = stop.exit_code
    except typer.TyperException as error:
        # A command that there is not may be one of the plugin's.
        plugins = broken_plugin and name not in _names() and not name.startswith("-")
        return _fail(broken_plugin if plugins else " ".join(error.format_message().split()), 2)
    except SystemExit:  # typer's, where what is printed has no reader any more
        return 128 + signal.SIGPIPE
    except (typer.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)
    except InputError as error:
        return _fail(_as_options(str(error)), 2)
    except FastganError as error:
        return _fail(_as_options(str(error)), 1)
    except (MemoryError, RuntimeError, OSError) as error:
        if is_out_of_memory(error):
            return _fail(memory_line(_MEMORY_ADVICE.get(name, "")), 2)
        if not isinstance(error, OSError):
            raise
        if "temporary directory" in str(error):  # torch and matplotlib need one, or their own variables
            return _fail(f"{error.strerror or error}; set TMPDIR to a folder that can be written to", 2)
        if error.errno not in _REFUSALS:
            raise
        if error.filename is None:  # whatever writes a file names it
            return _fail(*lost_output(error))
        return _fail(f"{error.filename}: cannot be written ({error.strerror})", 2)
    if broken_plugin and code == 0 and name != "--version":
        print_line(broken_plugin)
    return code


def _add_plugin_commands() -> str:
    """Add the commands of plugins; of one that cannot be imported, the line that says so."""
    known = {command.callback for command in app.registered_commands}
    try:
        commands = COMMANDS.values()
    except InputError as error:
        return str(error)
    for command in commands:
        if command not in known:
            app.command()(command)
    return ""


def _names() -> list[str]:
    """The names of the commands that there are."""
    return [command.callback.__name__ for command in app.registered_commands if command.callback is not None]


def _as_options(text: str) -> str:
    """A message of the library, which names arguments as in Python, with the options of those names."""
    text = _ARGUMENT.sub(r"--\1", text)
    text = re.sub(r"\b(add|use) resume=True\b", r"\1 --resume", text)
    return _SETTING.sub(_as_option, text)


def _as_option(setting: re.Match[str]) -> str:
    word, field = setting.groups()
    option = _OPTIONS.get(field)
    return f"{word} --set {field}=" if option is None else f"{word} {option} "


def _fail(message: str, code: int) -> int:
    if message:
        print_line(message)
    return code
