"""The whole step: the baseline is the same function as fastgan's step, and its convolutions are counted."""

import dataclasses
import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from helpers.bounds import assert_close
from torch import Tensor, nn

import fastgan.bench
from fastgan.bench.baselines import networks
from fastgan.bench.baselines.step import BaselineStep
from fastgan.bench.networks import conv_floor, step_setup, train
from fastgan.bench.networks.step_setup import StepSetup
from fastgan.errors import InputError
from fastgan.profiling.convolutions import floor_seconds, total_operations

TINY = StepSetup(32, 2, "cpu", "random")


@pytest.fixture(scope="module")
def fastgan_result() -> dict[str, Tensor]:
    run = step_setup.trainer(TINY, "fp32")
    losses = run.train_step(next(step_setup.batches(TINY)))
    return train.outcome(losses, run.state.generator, run.state.discriminator)


def baseline_result(change: Any = None, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    step = step_setup.baseline_step(TINY, dtype)
    if change is not None:
        change(step)
    losses = step(next(step_setup.batches(TINY)))
    return train.outcome(losses, step.generator, step.discriminator)


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    return baseline_result()


def test_losses_and_gradients_are_those_of_the_baseline_step(
    fastgan_result: dict[str, Tensor], reference: dict[str, Tensor]
) -> None:
    check = train.check_result(fastgan_result, reference, "float32")
    assert check.correct, check
    assert {*train.LOSSES, "loss/ssim", "generator", "discriminator"} == set(reference)
    assert all(reference[name].abs() > 1e-3 for name in (*train.LOSSES, "loss/ssim"))
    assert reference["generator"].numel() > 1e6 and reference["discriminator"].numel() > 1e6


@pytest.mark.parametrize("name", ["adversarial", "content", "style", "ssim"])
def test_a_weight_that_is_off_is_seen(name: str, fastgan_result: dict[str, Tensor]) -> None:
    def change(step: BaselineStep) -> None:
        step.loss_weights = dataclasses.replace(step.loss_weights, **{name: 1.02})

    assert not train.check_result(fastgan_result, baseline_result(change), "float32").correct


def test_the_second_step_agrees_too() -> None:
    """Each step from the same weights: what one rounds otherwise must not grow in the next."""
    run, baseline, source = step_setup.trainer(TINY, "fp32"), step_setup.baseline_step(TINY), step_setup.batches(TINY)
    pairs = ((run.state.generator, baseline.generator), (run.state.discriminator, baseline.discriminator))
    before = [[p.detach().clone() for p in have.parameters()] for have, _ in pairs]
    first = next(source)
    run.train_step(first)
    baseline(first)
    for (have, want), start in zip(pairs, before, strict=True):
        gradients = torch.cat([p.grad.flatten() for p in want.parameters() if p.grad is not None])
        moved, expected = (
            torch.cat([(p.detach() - old).flatten() for p, old in zip(network.parameters(), start, strict=True)])
            for network in (have, want)
        )
        # Adam's first update is the rate, with the gradient's sign: certain where that is well above its error.
        certain = gradients.abs() > 10 * train.TOLERANCES["float32"][1] * gradients.square().mean().sqrt()
        assert certain.float().mean() > 0.5 and moved[certain].abs().min() > 0
        assert_close(moved[certain], expected[certain], scale=max(p.abs().max().item() for p in want.parameters()))
        with torch.no_grad():
            networks.copy_weights(have, want)
    second = next(source)
    losses, wanted_losses = run.train_step(second), baseline(second)
    check = train.check_result(
        train.outcome(losses, run.state.generator, run.state.discriminator),
        train.outcome(wanted_losses, baseline.generator, baseline.discriminator),
        "float32",
    )
    assert check.correct, check


def test_one_without_the_gradient_of_d_is_wrong(reference: dict[str, Tensor]) -> None:
    frozen = {**reference, "discriminator": torch.zeros_like(reference["discriminator"])}
    check = train.check_result(frozen, reference, "bfloat16")
    assert not check.correct and check.measures["gradient_error_discriminator"] == pytest.approx(1)
    broken = {**reference, "loss/g": torch.tensor(float("nan"))}
    assert train.check_result(broken, reference, "bfloat16").correct is False


def test_autocast_is_within_its_tolerance(reference: dict[str, Tensor]) -> None:
    check = train.check_result(baseline_result(dtype=torch.bfloat16), reference, "bfloat16")
    assert check.correct and check.measures["loss_error"] != 0, check


def test_every_crop_of_the_style_is_the_same_picture() -> None:
    for size in (32, 63):
        style = step_setup.style_picture(size)
        assert style.shape == (size, size, 3) and (style == style[:, ::-1]).all() and style.std() > 20


def test_pictures_are_fresh_and_repeat() -> None:
    first, second = step_setup.pictures(2, 32, 0), step_setup.pictures(2, 32, 1)
    assert first.dtype == torch.uint8 and first.shape == (2, 32, 32, 3)
    assert torch.equal(first, step_setup.pictures(2, 32, 0)) and not torch.equal(first, second)
    assert first.float().std() > 20


def test_weights_of_other_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="other parameters"):
        networks.copy_weights(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3))


def test_step_runs_on_a_fresh_batch_each_time() -> None:
    step = fastgan.bench.step(size=32, batch=1)
    first, second = step(), step()
    assert first["loss/g"] != second["loss/g"]
    assert first["loss/g"] > 0 and first["time/step"] > 0


@pytest.mark.parametrize("given", [{"device": "tpu"}, {"size": 8}, {"batch": 0}])
def test_step_refuses(given: dict[str, Any]) -> None:
    (name,) = given
    with pytest.raises(InputError, match=name):
        fastgan.bench.step(**given)


def test_importing_it_is_light() -> None:
    code = """
import sys, fastgan.bench
assert "torch" not in sys.modules and "pydantic" not in sys.modules
from fastgan.bench import step
assert callable(step) and fastgan.bench.step is step
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_convolutions_of_the_step() -> None:
    needed = conv_floor.of_step(256, 4)
    # Conv 9x9 of G's end, counted by hand: forward, and the gradients of its input and of its weight.
    last = [found for found in needed if found.weight == (3, 32, 9, 9)]
    assert sorted(found.kind for found in last) == ["forward", "input", "weight"]
    assert all(found.operations == 2 * 4 * 256 * 256 * 3 * 32 * 81 for found in last)
    assert total_operations(needed) == pytest.approx(
        818e9, rel=0, abs=0.5e9
    )  # as docs/performance/training-step.md has it
    # By area, but for D's last convolutions, which make 31 and 30 pixels of 32 there and 15 and 14 of 16 here.
    assert 1 <= total_operations(needed) / (4 * total_operations(conv_floor.of_step(128, 4))) <= (30 / 28) ** 2
    # No gradient of photographs, nor of VGG-19's weights.
    first = [found for found in needed if found.weight == (32, 3, 9, 9)]
    assert sorted(found.kind for found in first) == ["forward", "weight"]
    assert {found.kind for found in needed if found.weight == (512, 256, 3, 3)} == {"forward", "input"}
    assert needed[next(f for f in needed if f.weight == (512, 256, 3, 3) and f.kind == "forward")] == 2


def test_output_shapes_are_torchs() -> None:
    for found in conv_floor.of_step(64, 1):
        x, weight = torch.empty(found.shape, device="meta"), torch.empty(found.weight, device="meta")
        assert nn.functional.conv2d(x, weight, None, found.stride, found.padding).shape == found.output


def test_the_floor_is_a_sum_of_times() -> None:
    needed = conv_floor.of_picture(16)
    assert {found.kind for found in needed} == {"forward"}
    assert 0 < floor_seconds(needed, torch.float32, "cpu", quick=True) < math.inf
