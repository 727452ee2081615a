"""Named units of one kind, from this package and from others."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from fastgan.errors import InputError, first_line

#: Entry points of this group name modules that register their generators, losses, tasks and commands when imported.
ENTRY_POINTS = "fastgan.plugins"

T = TypeVar("T")
_loaded = False
_failure = ""


class Registry(Generic[T]):
    """Named units of one kind. Plugins are imported at the first look.

    Args:
        kind: what the units are, for error messages: ``"generator"``.

    Attributes:
        default: the name that is used where none is given; empty where there is none.
    """

    default = ""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._units: dict[str, T] = {}

    def register(self, name: str, unit: T, *, default: bool = False) -> T:
        """Add a unit; ``default`` makes its name the one that is used where none is given.

        Raises:
            ValueError: the name is taken by another unit.
        """
        if self._units.get(name, unit) is not unit:
            raise ValueError(f"the {self.kind} {name} is registered twice")
        self._units[name] = unit
        if default:
            self.default = name
        return unit

    def __getitem__(self, name: str) -> T:
        """The unit of a name.

        Raises:
            InputError: there is none; the message lists those that there are.
        """
        load_plugins()
        if name not in self._units:
            raise InputError(f"there is no {self.kind} {name!r}; expected one of {', '.join(self)}")
        return self._units[name]

    def __contains__(self, name: object) -> bool:
        load_plugins()
        return name in self._units

    def __iter__(self) -> Iterator[str]:
        load_plugins()
        return iter(sorted(self._units, key=lambda name: name != self.default))

    def values(self) -> list[T]:
        """All units, the default first."""
        return [self._units[name] for name in self]


def load_plugins() -> None:
    """Import the modules that installed packages name in the entry point group ``fastgan.plugins``, once.

    Raises:
        InputError: one cannot be imported.
    """
    global _loaded, _failure
    if _failure:
        raise InputError(_failure)
    if _loaded:
        return
    _loaded = True  # first: a plugin may look things up while it is imported
    for entry_point in entry_points(group=ENTRY_POINTS):
        try:
            entry_point.load()
        except Exception as error:
            _failure = (
                f"the plugin {entry_point.name} ({entry_point.value}) cannot be imported: "
                f"{type(error).__name__}: {first_line(error)}"
            )
            raise InputError(_failure) from None
