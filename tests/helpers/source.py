"""The project's source: its files, parsed, and which module imports which."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "fastgan"


def python_files(folder: str = "fastgan") -> list[Path]:
    """The Python files of a folder of the project, sorted."""
    return sorted((ROOT / folder).rglob("*.py"))


def relative(file: Path) -> str:
    """A file as the project names it: ``fastgan/losses/pixel.py``."""
    return file.relative_to(ROOT).as_posix()


@functools.cache
def parse(file: Path) -> ast.Module:
    """The syntax tree of a Python file."""
    return ast.parse(file.read_text(encoding="utf-8"))


def docstrings(file: Path) -> Iterator[tuple[str, str]]:
    """(qualified name, docstring) of a module, its classes and its functions; "" is the module."""

    def walk(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                qualified = f"{name}.{child.name}".removeprefix(".")
                yield qualified, ast.get_docstring(child) or ""
                yield from walk(child, qualified)
            else:
                yield from walk(child, name)

    yield "", ast.get_docstring(parse(file)) or ""
    yield from walk(parse(file), "")


def modules() -> dict[str, Path]:
    """Module name -> file, of the whole package; a package is its ``__init__.py``."""
    names = {}
    for file in python_files():
        parts = file.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return names


def import_graph() -> dict[str, set[str]]:
    """Module -> the modules that it imports: at its top, in its functions, and for types.

    ``from fastgan.x import name`` is an import of the module that provides the name, where ``fastgan.x`` is a package
    that hands it on.
    """
    files = modules()
    provided: dict[str, dict[str, tuple[str, str]]] = {}
    for module, file in files.items():
        if file.name == "__init__.py":
            provided[module] = {bound: (source, name) for source, name, bound in _from_imports(file)}

    def provider(module: str, name: str) -> str | None:
        if f"{module}.{name}" in files:
            return f"{module}.{name}"
        if name in provided.get(module, ()):
            return provider(*provided[module][name])
        return module if module in files and f"{module}.{name}" != "fastgan._C" else None

    graph: dict[str, set[str]] = {}
    for module, file in files.items():
        targets = {provider(source, name) for source, name, _ in _from_imports(file)}
        for node in ast.walk(parse(file)):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names if alias.name in files}
        graph[module] = {target for target in targets if target is not None and target != module}
    return graph


def _from_imports(file: Path) -> Iterator[tuple[str, str, str]]:
    """(module, name, name that it is bound to) of the package's own ``from`` imports."""
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fastgan":
            yield from ((node.module or "", alias.name, alias.asname or alias.name) for alias in node.names)
