"""Errors that the user can fix."""


class FastganError(Exception):
    """Base of every error that fastgan raises on purpose."""


class InputError(FastganError, ValueError):
    """The user gave something that cannot be used: a file, an option, a config field.

    The message is one line that names it, says what is wrong and what is allowed. The command line prints
    that line on stderr and exits with code 2.
    """


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
