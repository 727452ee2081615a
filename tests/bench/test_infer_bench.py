"""A picture through the network: weights, providers, verdicts."""

import math

import pytest
import torch
from helpers.bounds import assert_close
from helpers.machine import require

from fastgan.bench import infer, suite
from fastgan.bench.infer import SEED, generators, judge


def test_both_networks_paint_the_same() -> None:
    ours, theirs = (network.double() for network in generators())
    x = torch.rand(1, 3, 32, 36, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64) * 2 - 1
    with torch.no_grad():
        picture, wanted = ours(x), theirs(x)
    assert wanted.std() > 0.2  # not gray
    # Each of 16 convolutions, of 128 * 9 products at most, and of 15 norms, in both.
    assert_close(picture, wanted, terms=128 * 9, steps=2 * 31)
    first, again = generators()[0], generators()[0]
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_the_verdict_is_psnr() -> None:
    truth = {"picture": torch.zeros(1, 3, 8, 8)}
    for off, correct in ((2e-3, True), (2e-2, False)):
        verdict = judge({"picture": truth["picture"] + off}, truth, "bfloat16")
        assert verdict.correct is correct
        assert verdict.measures["psnr_db"] == pytest.approx(20 * math.log10(2 / off), abs=0.0051)  # of four digits
    assert judge(truth, truth, "float32").correct
    assert not judge({"picture": torch.full((1, 3, 8, 8), math.nan)}, truth, "float32").correct
    assert not judge({"picture": torch.zeros(1)}, truth, "float32").correct


@pytest.mark.parametrize("provider", [{"precision": "fp32"}, {"by": "eager", "dtype": "float32"}])
def test_a_provider_gives_the_first_picture(provider: dict[str, str]) -> None:
    opened = infer.open_provider({"device": "cpu", "size": 32, **provider})
    truth = infer.open_provider({"device": "cpu", "size": 32, "by": "eager", "dtype": "float32"})
    assert judge(opened.result, truth.result, "float32").correct
    opened.call()


def test_onnxruntime_paints_the_same() -> None:
    require("the package onnxruntime", "the package onnx", "the package onnxscript")
    given = {"device": "cpu", "size": 32, "dtype": "float32"}
    opened = infer.open_provider({**given, "by": "onnxruntime"})
    assert judge(opened.result, infer.open_provider({**given, "by": "eager"}).result, "float32").correct


def test_the_compilers_take_part_when_asked() -> None:
    def names(compiled: bool) -> set[str]:
        return {provider.name for provider in infer.providers("cpu", 64, compiled)}

    assert names(False) == {"fastgan", "eager", "onnxruntime"} and names(True) == names(False) | {"compiled"}
    assert suite.ours("cpu")[0].options == {"precision": "auto"}
