"""YAML by the core schema of version 1.2: one reader for ``config.yaml``, files and ``--set``, and the writer.

PyYAML reads by version 1.1, where ``1:30`` is 90, ``0200`` is 128, ``yes`` is true and ``2020-01-02`` a date. Only its
parser is used here; what a scalar means is decided by the core schema, and what a config never needs is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

#: Bounds of what is read; a config has three levels and some eighty fields.
MAX_DEPTH, MAX_NODES = 32, 10_000

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")


class YamlError(ValueError):
    """A text that is not read.

    Attributes:
        line: the number of the line at fault, from 1; None where there is none.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(" ".join(message.split()))
        self.line = line


def read_yaml(text: str | bytes) -> tuple[Any, dict[str, int]]:
    """Read one document: its value, and the line, from 1, of every dotted field in it.

    Bytes are UTF-8, or UTF-16 with a byte order mark.

    Raises:
        YamlError: it is no YAML; a field is given twice; an alias holds itself; it is nested more than 32 levels deep,
            or has more than 10,000 values; it has tags, several documents, or keys that are no scalars.
    """
    try:
        return _Reader(yaml.parse(text, Loader=yaml.SafeLoader)).read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        parts = [part for part in (error.context, error.problem) if part]
        raise YamlError(", ".join(parts), None if mark is None else mark.line + 1) from None
    except yaml.reader.ReaderError as error:
        decoded = error.encoding == "unicode"
        raise YamlError(error.reason if decoded else f"it is no {error.encoding} text ({error.reason})") from None


def write_yaml(values: Any) -> str:
    """The text of ``values``, in the order that they have; readers of either version of YAML read the same."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)


class _Dumper(yaml.SafeDumper):
    """Quotes what version 1.1 takes for more than a text, and by the resolvers below what version 1.2 does."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(f"^(?:{_INT.pattern})$"), list("-+0123456789"))
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"^(?:{_FLOAT.pattern})$"), list("-+.0123456789"))


class _Reader:
    """Builds values from the events of PyYAML's parser, which does not recurse."""

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self._anchors: dict[str, tuple[Any, int] | None] = {}  # None while the value is being read
        self._nodes = 0
        self._lines: dict[str, int] = {}

    def read(self) -> tuple[Any, dict[str, int]]:
        value: Any = None
        documents = 0
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise YamlError("a second document begins here; a config is one", _line(event))
            elif isinstance(event, NodeEvent):
                value = self._value(event, ())
        return value, self._lines

    def _value(self, event: Event, path: tuple[str, ...]) -> Any:
        if isinstance(event, AliasEvent):
            return self._alias(event)
        assert isinstance(event, ScalarEvent | MappingStartEvent | SequenceStartEvent)
        before = self._nodes
        self._count(1, event)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if isinstance(event, ScalarEvent):
            value = _scalar(event)
        else:
            if event.tag is not None and event.tag != "!":
                raise YamlError(f"the tag {event.tag} is not taken", _line(event))
            if len(path) >= MAX_DEPTH:
                raise YamlError(f"nested more than {MAX_DEPTH} levels deep", _line(event))
            value = self._mapping(path) if isinstance(event, MappingStartEvent) else self._sequence(path)
        if event.anchor is not None:
            self._anchors[event.anchor] = value, self._nodes - before
        return value

    def _mapping(self, path: tuple[str, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            if not isinstance(event, ScalarEvent):
                raise YamlError("a key must be a name", _line(event))
            key, field = event.value, ".".join((*path, event.value))
            if key == "<<" and event.implicit[0]:
                raise YamlError("merge keys (<<) are not of YAML 1.2; write the fields out", _line(event))
            if key in values:
                raise YamlError(f"{field} is given twice, first in line {self._lines[field]}", _line(event))
            self._lines[field] = _line(event)
            values[key] = None  # given, whatever stands in it
            values[key] = self._value(next(self._events), (*path, key))
        return values

    def _sequence(self, path: tuple[str, ...]) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            values.append(self._value(event, (*path, str(len(values)))))
        return values

    def _alias(self, event: AliasEvent) -> Any:
        if event.anchor not in self._anchors:
            raise YamlError(f"the alias *{event.anchor} has no anchor before it", _line(event))
        anchored = self._anchors[event.anchor]
        if anchored is None:
            raise YamlError(f"the alias *{event.anchor} holds itself", _line(event))
        value, nodes = anchored
        self._count(nodes, event)
        return value

    def _count(self, nodes: int, event: Event) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise YamlError(f"more than {MAX_NODES:,} values", _line(event))


def _scalar(event: ScalarEvent) -> Any:
    text: str = event.value
    if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
        raise YamlError(f"the tag {event.tag} is not taken", _line(event))
    if event.tag is not None or not event.implicit[0]:  # quoted, or said to be a text
        return text
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        try:
            return int(text, 0 if text[:2] in ("0o", "0x") else 10)
        except ValueError:  # Python's bound on the digits of a number
            raise YamlError(f"a number of {len(text):,} digits", _line(event)) from None
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITY.fullmatch(text):
        return -math.inf if text[0] == "-" else math.inf
    return math.nan if _NAN.fullmatch(text) else text


def _line(event: Event) -> int:
    assert event.start_mark is not None
    return event.start_mark.line + 1
