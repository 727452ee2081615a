"""Names are terms of the field, and docstrings begin with the thing: old words do not come back."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.source import docstrings, parse, python_files, relative

#: Names that had to be asked about -> the term that stands for them.
RENAMED = {
    # training
    "AdversarialStep": "TrainStep",
    "Budget": "RunLength",
    "Graphs": "CudaGraphRunner",
    "Measures": "EvalResult",
    "MEASURED": "NUM_EVAL_IMAGES",
    "NoiseTask": "GenerateTask",
    "StylizeStep": "TrainStep",
    "damping": "lr_scale",
    "guarded": "finite_metrics",
    "look": "encode_content",
    "looked": "encode_content",
    "judge": "update_best",
    "judged": "discriminator_inputs",
    "objective": "generator_losses",
    "of_input": "input_grad",
    "of_parameters": "param_grad",
    "on_quality": "on_evaluation",
    "open_graphs": "make_graph_runner",
    "put_back": "restore",
    "settled": "decided",
    "sketched": "_generate_no_grad",
    "stylizer_run": "as_uint8_model",
    "take_back": "_revert_to_eager",
    "uses_of_discriminator": "discriminator_calls",
    "why_not": "unsupported_reason",
    # ops
    "HoldsMoments": "MomentRecorder",
    "Least": "MinNumel",
    "ema_decay_at": "ema_decay_tensor",
    "fuse_pull_kernel": "fuse_apply_bwd_kernel",
    "least": "min_numel",
    "lr_at": "lr_tensor",
    "pull_back": "backward",
    "pull_back_twice": "double_backward",
    "refusal": "unsupported_reason",
    "room": "empty",
    "room_like": "empty_like",
    "wide": "at_least_float32, x32",
    # models, data, metrics, files
    "Batches": "CropBatches",
    "FusedMoments": "FusedFeatureStats",
    "HasBatches": "BatchSource",
    "KernelDistance": "KID",
    "Photo": "ImagePath",
    "Spread": "Diversity",
    "StyledNorm": "ConditionalInstanceNorm",
    "Watch": "StreakCounter",
    "batch_spread": "batch_diversity",
    "demo_held_out": "demo_val",
    "fuses": "takes_any_style",
    "held_out": "val_images",
    "hold_out": "split_train_val",
    "iterate": "prefetch",
    "let_go": "release_workers",
    "reach": "receptive_radius",
    "remove_leftovers": "remove_temp_files",
    "said": "origin",
    "typed": "overridden",
    "write_whole": "atomic_write",
    # the bench
    "Effort": "TimingBudget, ProfileSteps",
    "Opened": "ReadyProvider",
    "PlainStep": "BaselineStep",
    "TRUTH": "REFERENCE",
    "Verdict": "Check",
    "honest": "unprofiled_seconds",
    "in_turns": "interleave",
    "open_provider": "make_provider",
    "ours": "fastgan",
    "peers": "third_party, baseline",
    "theirs": "baseline",
    # output
    "Tell": "Log",
    "say": "log, print",
    "tell": "log",
}
#: They say that something happened to a value, and not what it is.
PARTICIPLES = ("chosen", "each", "found", "given", "kept", "made", "told", "wanted")
#: How often they are assigned, by folder: these numbers only fall.
PARTICIPLES_AT_MOST = {"fastgan": 0, "benchmarks": 0, "tools": 7, "examples": 1, "tests": 339}
OPENINGS = re.compile(r"(What|Who|Whose|Of)\b")


def names(file: Path) -> Iterator[str]:
    """Every name that a file defines, assigns or uses, private ones without their underscore."""
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.Name):
            name = node.id
        elif isinstance(node, ast.Attribute):
            name = node.attr
        elif isinstance(node, ast.arg | ast.keyword):
            name = node.arg or ""
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = node.name
        else:
            continue
        yield name.removeprefix("_")


def assigned(file: Path) -> Iterator[str]:
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg


def test_old_names_stay_away() -> None:
    old = {
        f"{relative(file)}: {name}, say {RENAMED[name]}"
        for file in python_files()
        for name in names(file)
        if name in RENAMED
    }
    assert sorted(old) == []


@pytest.mark.parametrize("folder", PARTICIPLES_AT_MOST)
def test_no_bare_participles(folder: str) -> None:
    counts = Counter(
        f"{relative(file)}: {name}" for file in python_files(folder) for name in assigned(file) if name in PARTICIPLES
    )
    assert counts.total() <= PARTICIPLES_AT_MOST[folder], counts


@pytest.mark.parametrize("folder", PARTICIPLES_AT_MOST)
def test_docstrings_begin_with_the_thing(folder: str) -> None:
    openings = [
        f"{relative(file)}: {name}: {text.splitlines()[0]}"
        for file in python_files(folder)
        for name, text in docstrings(file)
        if OPENINGS.match(text)
    ]
    assert openings == []


def test_the_library_names_no_options() -> None:
    """Its messages have Python's arguments and ``field=value``; the command line makes options of them."""
    typed = ("fastgan/cli/", "fastgan/bench/", "fastgan/config/load.py", "fastgan/utils/json_output.py")
    of_git = ("fastgan/utils/system.py",)
    for path in python_files("fastgan"):
        if relative(path).startswith((*typed, *of_git)):
            continue
        tree = parse(path)
        of_docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in of_docs:
                found = re.search(r"(?<![\w-])--(?!force-reinstall)[a-z]+", node.value)
                assert found is None, f"{relative(path)}:{node.lineno}: {found and found.group()}"
