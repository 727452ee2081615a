"""The name of a model or a task stands in its own file alone: all else reads its spec."""

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest
from helpers.source import PACKAGE, ROOT, parse, python_files, relative

import fastgan
from fastgan.models import DISCRIMINATORS, GENERATORS
from fastgan.training.tasks import TASKS

#: File -> names that it may quote, and why.
QUOTED_ELSEWHERE = {
    "fastgan/bench/networks/step_setup.py": {"fast", "patch"},  # the networks that the benchmark of a step trains
    "fastgan/cli/train.py": {"fusion"},  # the option --fusion and the field model.fusion
}
NETWORKS: list[Any] = [*GENERATORS.values(), *DISCRIMINATORS.values()]


def file_of(unit: Any) -> Path:
    """The file of this checkout that defines a network or a task; the package may be an installed copy."""
    file, installed = Path(inspect.getfile(unit)), Path(fastgan.__file__).parent
    return PACKAGE / file.relative_to(installed) if file.is_relative_to(installed) else file


def own_files() -> dict[str, set[Path]]:
    """Name of a model or task of the package -> the files that register it."""
    units: list[tuple[str, Any]] = [(spec.name, spec.network) for spec in NETWORKS]
    units += [(task.name, task) for task in TASKS.values()]
    files: dict[str, set[Path]] = {}
    for name, unit in units:
        if file_of(unit).is_relative_to(PACKAGE):
            files.setdefault(name, set()).add(file_of(unit))
    return files


OWN_FILES = own_files()


def test_the_registries_have_names() -> None:
    assert {"fast", "fusion", "dcgan", "article", "patch", "stylize", "generate"} <= set(OWN_FILES)


@pytest.mark.parametrize("name", OWN_FILES)
def test_quoted_in_its_own_file_alone(name: str) -> None:
    quoting = {
        file for file in python_files() for node in ast.walk(parse(file))
        if isinstance(node, ast.Constant) and node.value == name
    }  # fmt: skip
    excused = {ROOT / file for file, names in QUOTED_ELSEWHERE.items() if name in names}
    assert quoting >= OWN_FILES[name] | excused
    assert [relative(file) for file in sorted(quoting - OWN_FILES[name] - excused)] == []


def test_no_network_is_asked_for_its_class() -> None:
    classes = {network.__name__: file_of(network) for network in (spec.network for spec in NETWORKS)}
    assert "FusionGenerator" in classes
    asking = [
        f"{relative(file)}:{node.lineno}: {ast.unparse(node)}"
        for file in python_files()
        for node in ast.walk(parse(file))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("isinstance", "issubclass")
        and any(
            isinstance(part, ast.Name | ast.Attribute)
            and classes.get(part.id if isinstance(part, ast.Name) else part.attr, file) != file
            for part in ast.walk(node.args[1])
        )
    ]
    assert asking == []
