"""A picture through the network: weights, providers, checks."""

import math

import pytest
import torch
from helpers.bounds import assert_close
from helpers.machine import require

from fastgan.bench import harness
from fastgan.bench.networks import infer
from fastgan.bench.networks.infer import SEED, check_result, generators


def test_both_networks_paint_the_same() -> None:
    fastgan, baseline = (network.double() for network in generators())
    x = torch.rand(1, 3, 32, 36, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64) * 2 - 1
    with torch.no_grad():
        picture, reference = fastgan(x), baseline(x)
    assert reference.std() > 0.2  # not gray
    # Each of 16 convolutions, of 128 * 9 products at most, and of 15 norms, in both.
    assert_close(picture, reference, terms=128 * 9, steps=2 * 31)
    first, again = generators()[0], generators()[0]
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_the_verdict_is_psnr() -> None:
    reference = {"picture": torch.zeros(1, 3, 8, 8)}
    for off, correct in ((2e-3, True), (2e-2, False)):
        check = check_result({"picture": reference["picture"] + off}, reference, "bfloat16")
        assert check.correct is correct
        assert check.measures["psnr_db"] == pytest.approx(20 * math.log10(2 / off), abs=0.0051)  # of four digits
    assert check_result(reference, reference, "float32").correct
    assert not check_result({"picture": torch.full((1, 3, 8, 8), math.nan)}, reference, "float32").correct
    assert not check_result({"picture": torch.zeros(1)}, reference, "float32").correct


@pytest.mark.parametrize("options", [{"precision": "fp32"}, {"runtime": "eager", "dtype": "float32"}])
def test_a_provider_gives_the_first_picture(options: dict[str, str]) -> None:
    provider = infer.make_provider({"device": "cpu", "size": 32, **options})
    reference = infer.make_provider({"device": "cpu", "size": 32, "runtime": "eager", "dtype": "float32"})
    assert check_result(provider.result, reference.result, "float32").correct
    provider.call()


def test_onnxruntime_paints_the_same() -> None:
    require("the package onnxruntime", "the package onnx", "the package onnxscript")
    given = {"device": "cpu", "size": 32, "dtype": "float32"}
    provider = infer.make_provider({**given, "runtime": "onnxruntime"})
    assert check_result(provider.result, infer.make_provider({**given, "runtime": "eager"}).result, "float32").correct


def test_the_compilers_take_part_when_asked() -> None:
    def names(compiled: bool) -> set[str]:
        return {provider.name for provider in infer.providers("cpu", 64, compiled)}

    assert names(False) == {"fastgan", "eager", "onnxruntime"} and names(True) == names(False) | {"compiled"}
    assert harness.fastgan_providers("cpu")[0].options == {"precision": "auto"}
