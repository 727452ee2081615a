"""YAML by the core schema of version 1.2, read strictly, and written so that it is read as it was."""

import math
from typing import Any

import pytest
import yaml

from fastgan.config.yaml_core import MAX_DEPTH, YamlError, read_yaml, write_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # The examples of YAML 1.2.2, section 10.3.2.
        ("~", None),
        ("null", None),
        ("", None),
        ("true", True),
        ("False", False),
        ("0", 0),
        ("0o7", 7),
        ("0x3A", 58),
        ("-19", -19),
        ("0.", 0.0),
        ("-0.0", -0.0),
        (".5", 0.5),
        ("+12e03", 12000.0),
        ("-2E+05", -200000.0),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        # What version 1.1 takes for something else.
        ("1:30", "1:30"),
        ("0200", 200),
        ("08", 8),
        ("1e-4", 0.0001),
        ("1_000", "1_000"),
        ("1,000", "1,000"),
        ("yes", "yes"),
        ("on", "on"),
        ("NO", "NO"),
        ("2020-01-02", "2020-01-02"),
        ("0b11", "0b11"),
        ("=", "="),
        # Texts by how they are written.
        ("'12'", "12"),
        ('"true"', "true"),
        ("!!str 12", "12"),
        ("! 12", "12"),
        ("[1, x, [null]]", [1, "x", [None]]),
        ("{a: {b: 1}, c: }", {"a": {"b": 1}, "c": None}),
        ("{1: x, yes: y}", {"1": "x", "yes": "y"}),
        ("{a: &x {b: 1}, c: *x}", {"a": {"b": 1}, "c": {"b": 1}}),
        ("# nothing", None),
    ],
)
def test_values(text: str, value: Any) -> None:
    got = read_yaml(text)[0]
    assert got == value and type(got) is type(value)
    assert read_yaml(text.encode())[0] == value and read_yaml(text.encode("utf-16"))[0] == value


def test_not_a_number() -> None:
    assert math.isnan(read_yaml(".NaN")[0])


def test_a_byte_order_mark_is_none_of_the_text() -> None:
    assert read_yaml(b"\xef\xbb\xbfdata:\r\n  size: 64\r\n")[0] == {"data": {"size": 64}}


@pytest.mark.parametrize(
    ("text", "says", "line"),
    [
        ("a: 1\nb: 2\na: 3", "a is given twice, first in line 1", 3),
        ("a:\n  b: 1\n  b: 1", "a.b is given twice, first in line 2", 3),
        ("a:\nb: 1\na: 2", "a is given twice", 3),
        ("a: &x\n  b: *x", "the alias *x holds itself", 2),
        ("&x [1,\n*x]", "the alias *x holds itself", 2),
        ("a: *x", "the alias *x has no anchor before it", 1),
        ("a: 1\n--- 2", "second document", 2),
        ("a: !!python/object:os.system {}", "the tag tag:yaml.org,2002:python/object:os.system is not taken", 1),
        ("a: !!timestamp 2020-01-01", "timestamp is not taken", 1),
        ("a: &x {b: 1}\nc: {<<: *x}", "merge keys", 2),
        ("{[a]: 1}", "a key must be a name", 1),
        ("a:\n\tb: 1", "cannot start any token", 2),
        ("a: [1", "expected ',' or ']'", 1),
        ("a: b: c", "mapping values are not allowed here", 1),
        ("9" * 5000, "a number of 5,000 digits", 1),
        ("[" * 100_000, f"nested more than {MAX_DEPTH} levels deep", 1),
        ("a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
            f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
        ), "more than 10,000 values", 4),
        (b"a: caf\xe9.jpg", "no utf-8 text", None),
        (b"a: \x01", "special characters are not allowed", None),
    ],
)  # fmt: skip
def test_refusals(text: str | bytes, says: str, line: int | None) -> None:
    with pytest.raises(YamlError) as caught:
        read_yaml(text)
    assert says in str(caught.value) and "\n" not in str(caught.value) and caught.value.line == line


def test_lines() -> None:
    _, lines = read_yaml("data:\n  size: 64\n  more: [a,\n    b]\n\nloss: {tv: 1}")
    assert lines == {"data": 1, "data.size": 2, "data.more": 3, "loss": 6, "loss.tv": 6}


@pytest.mark.parametrize(
    "value",
    [
        *("1e5", "0o17", "08", "1:30", "yes", "true", "null", "", "~", "12", ".5", "a: b", " x ", "caf\xe9", "a\nb"),
        *("<<", "caf\udce9", "2020-01-02", "=", "-", "#", "+1", "0x1F", 1e-05, 1e16, 0.1, 3, True, None, [], ["1e5"]),
    ],
)  # fmt: skip
def test_what_is_written_is_read_as_it_was(value: Any) -> None:
    text = write_yaml({"field": value})
    assert read_yaml(text)[0] == {"field": value} == yaml.safe_load(text)
    assert read_yaml(write_yaml({str(value): 1}))[0] == {str(value): 1}
