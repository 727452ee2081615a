"""Tests lie where the module lies that they hold, and an op's code and tests in folders of its name."""

import ast

import pytest
from helpers.source import PACKAGE, ROOT, parse, python_files, relative

TESTS = ROOT / "tests"
OPS = sorted(path.name for path in (PACKAGE / "ops").iterdir() if (path / "__init__.py").exists())

#: Modules without a test file of their own: the files that hold them.
HELD_BY = {
    "bench/baselines/adam.py": ("bench/networks/test_train.py",),
    "bench/baselines/networks.py": ("bench/networks/test_train.py", "bench/networks/test_infer.py"),
    "bench/baselines/ops.py": ("bench/ops/test_op_benchmarks.py",),
    "bench/baselines/step.py": ("bench/networks/test_train.py",),
    "bench/harness.py": ("bench/test_worker_process.py",),
    "bench/html.py": ("bench/ops/test_suite.py",),
    "bench/loader/pipelines.py": ("bench/loader/test_suite.py",),
    "bench/networks/conv_floor.py": ("bench/networks/test_train.py",),
    "bench/networks/step_setup.py": ("bench/networks/test_train.py",),
    "bench/ops/op_benchmark.py": ("bench/ops/test_op_benchmarks.py",),
    "bench/ops/providers.py": ("bench/ops/test_op_benchmarks.py",),
    "bench/ops/third_party.py": ("bench/ops/test_op_benchmarks.py",),
    "bench/results.py": ("bench/ops/test_suite.py", "cli/test_bench.py"),
    "bench/roofline.py": ("bench/test_timing.py",),
    "bench/run.py": ("cli/test_bench.py", "bench/test_options.py"),
    "bench/tables.py": ("bench/ops/test_suite.py",),
    "bench/triton/aot_calls.py": ("ops/test_triton.py",),
    "bench/triton/aot_compile.py": ("ops/test_triton.py",),
    "bench/triton/tune.py": ("interpreted/test_tune.py",),
    "cli/commands.py": ("behavior/test_extending.py",),
    "cli/generate.py": ("cli/test_models.py",),
    "cli/progress.py": ("cli/test_train.py",),
    "cli/start_time.py": ("cli/test_train.py",),
    "config/schema.py": ("config/test_load.py", "config/test_validation.py"),
    "config/sections.py": ("config/test_load.py", "config/test_validation.py"),
    "data/demo.py": ("cli/test_train.py",),
    "data/formats.py": ("data/test_encode.py", "data/test_listing.py"),
    "data/tensors.py": ("inference/test_stylizer.py", "behavior/test_fusion.py"),
    "errors.py": ("cli/test_app.py",),
    "evaluation/image_grid.py": ("training/test_trainer.py", "behavior/test_fusion.py"),
    "evaluation/metrics_log.py": ("evaluation/test_report.py",),
    "metrics/base.py": ("metrics/test_image.py",),
    "models/registry.py": ("behavior/test_extending.py", "utils/test_registry.py"),
    "models/style_code.py": ("behavior/test_fusion.py", "training/test_style_bank.py"),
    "ops/_checks.py": ("ops/ssim/test_ssim.py", "ops/fuse/test_fuse.py", "ops/optim_step/test_optim_step.py"),
    "ops/_library.py": ("ops/test_backends.py",),
    "ops/_triton_tiles.py": ("interpreted/test_triton_tiles.py",),
    "profiling/profiler.py": ("cli/test_profile.py",),
    "training/activation_checkpointing.py": ("behavior/test_memory.py",),
    "training/callbacks/base.py": ("training/test_trainer.py",),
    "training/callbacks/checkpoints.py": ("behavior/test_resume.py", "training/test_trainer.py"),
    "training/callbacks/collapse.py": ("training/test_collapse.py", "behavior/test_stability.py"),
    "training/callbacks/metrics_file.py": ("training/test_trainer.py", "behavior/test_resume.py"),
    "training/callbacks/samples.py": ("training/test_trainer.py",),
    "training/callbacks/tensorboard.py": ("training/test_trainer.py",),
    "training/callbacks/writers.py": ("behavior/test_resume.py",),
    "training/phases.py": ("cli/test_profile.py", "training/test_trainer.py"),
    "training/record.py": ("evaluation/test_report.py",),
    "training/setup.py": ("training/test_trainer.py", "behavior/test_article.py"),
    "training/state.py": ("behavior/test_resume.py", "training/callbacks/test_rollback.py"),
    "training/tasks/base.py": ("behavior/test_extending.py",),
    "training/tasks/stylize.py": ("training/test_train_step.py", "behavior/test_fusion.py"),
    "utils/html.py": ("evaluation/test_report.py",),
    "version.py": ("cli/test_info.py",),
}
#: Test files beside those of modules.
FREE = {
    "cli/test_models.py": "every command with each model",
    "interpreted/test_triton_tiles.py": "ops/_triton_tiles.py needs the process that Triton's interpreter has",
    "interpreted/test_tune.py": "bench/triton/tune.py needs the process that Triton's interpreter has",
    "ops/test_backends.py": "all ops by one table",
    "ops/test_cuda_emulated.py": "the .cu files of csrc by the emulator",
    "ops/test_cuda_emulated_networks.py": "the .cu files of csrc by the emulator",
}
#: What crosses modules, and what is of the project.
FREE_FOLDERS = ("behavior", "project")
#: Ops without native code: PyTorch's own functions serve on CPU and Triton on a GPU.
WITHOUT_NATIVE = {"gan_loss": "its input is a few hundred logits"}
#: Files of an op beside its public function: the op's test and `ops/test_backends.py` run them by `backend=`.
BACKENDS = ("reference", "torch_library", "native", "_validation")


def is_kernels(stem: str) -> bool:
    return stem == "triton" or stem.startswith("_triton_")


def expected_test(module: str) -> str:
    """The test file of a module of the package, as a path below ``tests``."""
    folder, _, name = module.rpartition("/")
    stem = name.removesuffix(".py")
    op = folder.removeprefix("ops/")
    if folder.startswith("ops/") and op in OPS:
        if is_kernels(stem):
            return f"interpreted/test_{op}.py"
        if stem in ("__init__", *BACKENDS):
            return f"ops/{op}/test_{op}.py"
    return f"{folder}/test_{stem.removeprefix('_')}.py".removeprefix("/")


MODULES = [file.relative_to(PACKAGE).as_posix() for file in python_files() if file.name != "__main__.py"]
MODULES = [name for name in MODULES if not name.endswith("__init__.py") or name.removesuffix("/__init__.py")[4:] in OPS]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_its_test(module: str) -> None:
    name = expected_test(module)
    if module in HELD_BY:
        assert not (TESTS / name).exists(), f"{name} is the test of {module}: take it out of HELD_BY"
        assert [name for name in HELD_BY[module] if not (TESTS / name).exists()] == []
    else:
        assert (TESTS / name).exists(), f"{module} has no {name}"


def test_the_exceptions_are_of_files_that_exist() -> None:
    assert set(HELD_BY) <= set(MODULES)
    assert [name for name in FREE if not (TESTS / name).exists()] == []


def test_a_test_has_its_module() -> None:
    """``test_<module>.py`` or, for a part of a large module's tests, ``test_<module>_<topic>.py``."""
    of_modules = {expected_test(module).removesuffix(".py") for module in MODULES}
    loose = []
    for file in sorted(TESTS.rglob("test_*.py")):
        name = file.relative_to(TESTS).as_posix()
        stem = name.removesuffix(".py")
        own = any(stem == other or stem.startswith(f"{other}_") for other in of_modules)
        if not own and name not in FREE and name.split("/")[0] not in FREE_FOLDERS:
            loose.append(name)
    assert loose == []


def test_an_op_is_one_name() -> None:
    """The folders of ``fastgan/ops``, ``csrc`` and ``tests/ops`` agree."""
    tested = sorted(path.name for path in (TESTS / "ops").iterdir() if any(path.glob("test_*.py")))
    assert tested == OPS
    native = {path.name for path in (ROOT / "csrc").iterdir() if path.is_dir()} - {"common"}
    assert native == set(OPS) - set(WITHOUT_NATIVE)
    assert native == {op for op in OPS if (PACKAGE / "ops" / op / "native.py").exists()}
    kernels = {op for op in OPS if (PACKAGE / "ops" / op / "triton.py").exists()}
    assert kernels <= {file.stem.removeprefix("test_") for file in (TESTS / "interpreted").glob("test_*.py")}


@pytest.mark.parametrize("op", OPS)
def test_the_files_of_an_op(op: str) -> None:
    stems = {file.stem for file in (PACKAGE / "ops" / op).glob("*.py")}
    assert {"__init__", "reference", "torch_library"} <= stems
    assert {stem for stem in stems if not is_kernels(stem)} <= {"__init__", *BACKENDS}
    if op not in WITHOUT_NATIVE:
        sources = [file.stem for file in (ROOT / "csrc" / op).iterdir()]
        assert f"{op}_cpu" in sources
        assert all(stem == op or stem.startswith(f"{op}_") for stem in sources)


@pytest.mark.parametrize("op", OPS)
def test_the_public_functions_of_an_op_are_in_its_init(op: str) -> None:
    """And ``fastgan.ops`` hands them on."""
    functions = {
        node.name
        for node in parse(PACKAGE / "ops" / op / "__init__.py").body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }
    handed_on = {
        alias.name
        for node in parse(PACKAGE / "ops" / "__init__.py").body
        if isinstance(node, ast.ImportFrom) and node.module == f"fastgan.ops.{op}"
        for alias in node.names
    }
    assert functions == handed_on, relative(PACKAGE / "ops" / op)
