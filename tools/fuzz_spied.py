"""The extension as the fuzzer calls it: counted, and now and then with what must be refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from types import ModuleType
from typing import Any

from fuzz_memory import Finding

#: In place of an argument of the raw bindings, by what the argument is.
NOT_VIEWS: tuple[Any, ...] = (
    (),
    (1, 0, 1, 1, 1),
    (1, 0, 1, 1, 1, 1, 1),
    [1, 0, 1, 1, 1, 1],
    "view",
    3,
    (None,) * 6,
    ("1",) * 6,
)
NOT_VIEWS += ((-1, 0, 1, 1, 1, 1), (1 << 70, 0, 1, 1, 1, 1), (1, 0, 1.5, 1, 1, 1), (1, 1 << 40, 1, 1, 1, 1))
NOT_SHAPES: tuple[Any, ...] = (
    (),
    (1, 1, 1),
    (1, 1, 1, 1, 1),
    None,
    "NCHW",
    ("1",) * 4,
    (1, 1, 1, 1.5),
    (1, 1, 1, 1 << 70),
    4,
)
NOT_INTEGERS = (None, "1", 1.5, (1,), 1 << 70)
NOT_NUMBERS = (None, "1", (), [1.0], 1j)


def must_raise(description: str, call: Callable[..., object], *arguments: Any) -> None:
    try:
        call(*arguments)
    except Exception:
        return
    raise Finding(f"accepted: {description}")


class Spied:
    """The sanitized extension: counts the calls, and now and then tries one with an argument of a wrong kind first."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.calls: Counter[str] = Counter()
        self.random = Random()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self.module, name)

        def call(*arguments: Any) -> Any:
            self.calls[name] += 1
            if arguments and self.random.random() < 0.2:
                self.garble(name, function, arguments)
            return function(*arguments)

        return call

    def garble(self, name: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        at = self.random.randrange(len(arguments))
        match arguments[at]:
            case bool():  # takes anything that has a truth
                return
            case int():
                wrong: Any = self.random.choice(NOT_INTEGERS)
            case float():
                wrong = self.random.choice(NOT_NUMBERS)
            case tuple() as shape if len(shape) == 4:
                wrong = self.random.choice(NOT_SHAPES)
            case tuple() | None:
                wrong = self.random.choice(NOT_VIEWS)
            case _:
                wrong = None
        garbled = (*arguments[:at], wrong, *arguments[at + 1 :])
        must_raise(f"{name} with {wrong!r} as argument {at}", function, *garbled)
        must_raise(f"{name} without its last argument", function, *arguments[:-1])
