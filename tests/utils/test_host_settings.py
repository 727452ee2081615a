"""The settings of the host program: not seen, and left as they are."""

import ast
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers.source import parse, python_files, relative
from torch import nn

from fastgan.utils.host_settings import building, own_settings


def settings() -> dict[str, object]:
    return {
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "device": str(torch.get_default_device()),
    }


PLAIN = {"grad": True, "inference": False, "autocast": False, "device": "cpu"}


@own_settings()
def seen(fails: bool = False) -> dict[str, object]:
    if fails:
        raise LookupError
    return settings()


def test_a_call_sees_none_of_the_callers_and_leaves_them() -> None:
    assert seen() == PLAIN
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
        before = settings()
        assert before == {"grad": False, "inference": True, "autocast": True, "device": "meta"}
        assert seen() == PLAIN
        assert settings() == before
        with pytest.raises(LookupError):
            seen(fails=True)
        assert settings() == before
        with torch.autocast("cpu", torch.float16), own_settings():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    with torch.no_grad():
        assert seen() == PLAIN
        assert not torch.is_grad_enabled()


def test_networks_are_made_in_float32_and_leave_the_random_state() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with building(7):
        want = nn.Linear(5, 5).weight
    torch.set_default_dtype(torch.float64)
    try:
        with building(7):
            with building():  # which keeps its draws to itself
                torch.rand(3)
            have = nn.Linear(5, 5).weight
        assert torch.get_default_dtype() == torch.float64
        with pytest.raises(LookupError), building():
            raise LookupError
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(have, want) and have.dtype == torch.float32
    assert torch.equal(torch.get_rng_state(), before)


def test_threads_that_make_networks_at_once_make_what_each_would_alone() -> None:
    """torch's random state is one for all threads."""

    def made(seed: int) -> torch.Tensor:
        with building(seed):
            return torch.cat([nn.Linear(40, 40).weight for _ in range(20)])

    want = [made(seed) for seed in range(8)]
    before = torch.get_rng_state()
    with ThreadPoolExecutor(8) as pool:
        have = list(pool.map(made, list(range(8)) * 4))
    assert all(torch.equal(a, b) for a, b in zip(have, want * 4, strict=True))
    assert torch.equal(torch.get_rng_state(), before)


#: Makers of tensors whose dtype is the default one where none is named.
MAKERS = {"empty", "eye", "full", "linspace", "ones", "rand", "randn", "tensor", "zeros"}


def test_nothing_takes_the_default_dtype() -> None:
    """Networks do when they are made, within ``building``; and benchmarks and profiles are programs of their own."""
    implicit = [
        f"{relative(file)}:{node.lineno}"
        for file in python_files()
        if file.parent.name != "models" and not {"bench", "profiling"} & set(file.parts)
        for node in ast.walk(parse(file))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).removeprefix("torch.") in MAKERS
        and ast.unparse(node.func).startswith("torch.")
        and not {"dtype", None} & {keyword.arg for keyword in node.keywords}
        and 'device="meta"' not in ast.unparse(node).replace("'", '"')
    ]
    assert implicit == []
