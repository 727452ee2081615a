"""Files, functions, classes and folders stay small enough to read at once."""

import ast
from pathlib import Path

import pytest
from helpers.source import ROOT, parse, python_files, relative

#: Lines of a file at most, by the folder that it lies in.
LINES = {"fastgan": 400, "csrc": 450, "tests": 450, "benchmarks": 450, "tools": 450, "examples": 450}
SUFFIXES = {".py", ".cpp", ".cu", ".h", ".cuh", ".inc", ".html", ".sh"}
#: Lines of a function's body with its docstring: a kernel's or an op's signature has a line for each argument.
BODY_LINES = 60
#: Properties are not counted.
PUBLIC_METHODS = 15
FILES_IN_FOLDER = 20
TRAINER_LINES = 250

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(folder: str) -> list[Path]:
    return [path for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]


def body_lines(function: Function) -> int:
    return (function.end_lineno or 0) - function.body[0].lineno + 1


def public_methods(definition: ast.ClassDef) -> list[str]:
    return [
        method.name
        for method in definition.body
        if isinstance(method, Function)
        and not method.name.startswith("_")
        and "property" not in map(ast.unparse, method.decorator_list)
    ]


@pytest.mark.parametrize("folder", LINES)
def test_files(folder: str) -> None:
    lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources(folder)}
    assert lengths and {name: lines for name, lines in lengths.items() if lines > LINES[folder]} == {}


def test_functions() -> None:
    long = {
        f"{relative(file)}: {node.name}": body_lines(node)
        for file in python_files()
        for node in ast.walk(parse(file))
        if isinstance(node, Function) and body_lines(node) > BODY_LINES
    }
    assert long == {}


def test_classes() -> None:
    large = {
        f"{relative(file)}: {node.name}": len(public_methods(node))
        for file in python_files()
        for node in ast.walk(parse(file))
        if isinstance(node, ast.ClassDef) and len(public_methods(node)) > PUBLIC_METHODS
    }
    assert large == {}


def test_the_trainer() -> None:
    tree = parse(ROOT / "fastgan" / "training" / "trainer.py")
    trainer = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Trainer")
    assert (trainer.end_lineno or 0) - trainer.lineno + 1 < TRAINER_LINES


@pytest.mark.parametrize("folder", ["fastgan", "csrc"])
def test_folders(folder: str) -> None:
    counts: dict[str, int] = {}
    for path in sources(folder):
        counts[relative(path.parent)] = counts.get(relative(path.parent), 0) + 1
    assert counts and {name: count for name, count in counts.items() if count > FILES_IN_FOLDER} == {}
