"""An optimizer's update and the check of its gradient in Triton."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.bounds import rounding, unit
from helpers.optim_updates import FEW, ROUNDINGS, RULES, Rule, compare_with_float64, follow_torch, midway

from fastgan import ops
from fastgan.ops import _triton
from fastgan.ops.optim_step import triton as kernels

BLOCKS = ("FLAT", "CHECKED")


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("counted", [False, True], ids=["number", "tensor"])
def test_the_trajectory_of_torch(rule: Rule, counted: bool) -> None:
    step = torch.zeros(1)
    follow_torch(rule, 1300, "triton", **({"step": step} if counted else {}))
    assert step.item() == (20 if counted else 0)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("dtype", _triton.DTYPES, ids=str)
@pytest.mark.parametrize("length", [1, 1021, 1024, 3079])
def test_beside_float64(rule: Rule, dtype: torch.dtype, length: int) -> None:
    compare_with_float64(rule, length, dtype, "triton")


OPTIONS: dict[str, dict[str, Any]] = {
    "clip": {"weight_clip": 0.01},
    "ema near": {"ema_decay": 0.999},
    "ema far": {"ema_decay": 0.1},
    "ema on the device": {"ema_decay": torch.tensor(0.999, dtype=torch.float64)},
    "scale": {"scale": torch.tensor([1024.0])},
    "odd scale": {"scale": torch.tensor(3.0)},
    "lr on the device": {"lr": torch.tensor([0.02])},
    "step on the device": {"step": torch.tensor(7)},
    "found nothing": {"found_inf": torch.zeros(1)},
    "all": {
        "weight_clip": 0.9,
        "ema_decay": torch.tensor(0.5),
        "scale": torch.tensor(8.0),
        "lr": torch.tensor(0.02, dtype=torch.float64),
        "step": torch.tensor([11.0]),
        "found_inf": torch.zeros(()),
        "eps": 1e-3,
    },
}


@pytest.mark.parametrize("rule", FEW, ids=str)
@pytest.mark.parametrize("name", OPTIONS)
def test_options(rule: Rule, name: str) -> None:
    compare_with_float64(rule, 2500, torch.float32, "triton", **OPTIONS[name])


@pytest.mark.parametrize("rule", FEW, ids=str)
@pytest.mark.parametrize("choice", range(4))
def test_every_configuration(rule: Rule, choice: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in BLOCKS:
        choices = getattr(kernels, name)
        monkeypatch.setattr(kernels, name, (choices[choice % len(choices)],))
    compare_with_float64(rule, 9001, torch.bfloat16, "triton", **OPTIONS["all"])
    for bad in (0, 5000, 9000):
        found = torch.zeros(())
        grad = torch.ones(9001)
        ops.check_finite(grad, found, backend="triton")
        assert found == 0
        grad[bad] = torch.nan
        ops.check_finite(grad, found, backend="triton")
        assert found == 1


@pytest.mark.parametrize("rule", FEW, ids=str)
def test_what_overflowed_changes_nothing(rule: Rule) -> None:
    flat, start = midway(rule, 1500), midway(rule, 1500)
    step = torch.tensor(4.0)
    options = rule.options(step=step, ema=flat.ema, ema_decay=0.9, weight_clip=0.1, found_inf=torch.ones(1))
    flat.grad[3] = torch.inf
    ops.optim_step(flat.param, flat.grad, flat.state, **options, backend="triton")
    assert step == 4
    for have, want in zip(flat.tensors(), start.tensors(), strict=True):
        assert torch.equal(have, want)


@pytest.mark.filterwarnings("ignore:overflow encountered")  # NumPy's, in the interpreter
@pytest.mark.parametrize("dtype", _triton.DTYPES, ids=str)
@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
def test_check_finite(dtype: torch.dtype, bad: float) -> None:
    found = torch.zeros(1)
    grad = torch.randn(5000).to(dtype)
    grad[0] = torch.finfo(dtype).max
    ops.check_finite(grad, found, backend="triton")
    ops.check_finite(grad, found, torch.tensor(2.0), backend="triton")
    assert found == 0
    if dtype != torch.float16:  # whose largest is far from float32's
        ops.check_finite(grad, found, torch.tensor(0.5), backend="triton")
        assert found == 1
    found.zero_()
    grad[4999] = bad
    ops.check_finite(grad, found, torch.tensor(2.0), backend="triton")
    assert found == 1


def test_nan_passes_through_clip_and_ema() -> None:
    rule = Rule("adam", 0.9)
    flat = midway(rule, 10)
    flat.grad[4] = torch.nan
    options = rule.options(step=2, weight_clip=0.5, ema=flat.ema, ema_decay=0.9)
    ops.optim_step(flat.param, flat.grad, flat.state, **options, backend="triton")
    for tensor in flat.tensors():
        assert tensor.isnan().tolist() == [i == 4 for i in range(10)]


@pytest.mark.parametrize("beta", [0.5, 0.9, 0.99, 0.999, 0.9999])
def test_bias_corrections_on_the_device_are_those_of_the_host(beta: float) -> None:
    """1 - beta**step in float32 is wrong in the fourth digit where beta is 0.999 and step 1."""
    for count in (1, 2, 3, 10, 100, 1000, 100_000):
        rule = Rule("adam", beta, beta2=beta)
        host, device = midway(rule, 64), midway(rule, 64)
        ops.optim_step(host.param, host.grad, host.state, **rule.options(step=count), backend="triton")
        step = torch.tensor([count - 1])
        ops.optim_step(device.param, device.grad, device.state, **rule.options(step=step), backend="triton")
        assert step == count
        start = midway(rule, 64).param
        # A parameter is rounded once each way, and its change at every operation of two updates.
        near = rounding(steps=2 * ROUNDINGS) * (host.param - start).abs().max().item()
        torch.testing.assert_close(device.param, host.param, rtol=2 * unit(torch.float32), atol=near)


def test_the_kernel_ran_in_one_launch() -> None:
    rule = Rule("rmsprop", 0.5)
    flat = midway(rule, 3000)
    with _triton.recorded(run=True) as launches:
        found = torch.zeros(1)
        ops.check_finite(flat.grad, found, backend="triton")
        options = rule.options(step=1, found_inf=found, ema=flat.ema, ema_decay=0.9, scale=torch.ones(1))
        ops.optim_step(flat.param, flat.grad, flat.state, **options, backend="triton")
        ops.optim_step(flat.param, flat.grad, flat.state, **rule.options(step=torch.zeros(1)), backend="triton")
    assert [launch.name for launch in launches] == [
        "check_finite_fwd_kernel",
        "optim_step_fwd_kernel",
        "optim_step_count_kernel",
        "optim_step_fwd_kernel",
    ]


def test_nothing_beside_the_tensors_is_touched() -> None:
    rule = Rule("adam", 0.9)
    walls = [torch.full((1100,), 7.0) for _ in range(4)]
    inner = [wall[30:1051] for wall in walls]
    inner[2].abs_()
    grad = torch.randn(1021)
    ops.optim_step(
        inner[0], grad, (inner[1], inner[2]), **rule.options(step=1, ema=inner[3], ema_decay=0.5), backend="triton"
    )
    for wall in walls:
        assert (wall[:30] == 7).all() and (wall[1051:] == 7).all() and (wall[30:1051] != 7).any()


def test_opcheck() -> None:
    rule = Rule("adam", 0.9)
    flat = midway(rule, 40)
    others = (torch.zeros(1), 0.1, None, 0.9, 0.99, 1e-8, 0.5, flat.ema, 0.9, None, None, torch.zeros(1))
    args = (flat.param, flat.grad, list(flat.state), "adam", 0, *others)
    torch.library.opcheck(torch.ops.fastgan.triton_optim_step.default, args)
    torch.library.opcheck(torch.ops.fastgan.triton_check_finite.default, (flat.grad, torch.zeros(1), None))
