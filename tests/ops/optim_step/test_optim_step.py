"""An optimizer's update of flat parameters: torch.optim's own trajectory, every option, instruction set and length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.bounds import assert_close
from helpers.machine import needs
from helpers.optim_updates import FEW, RULES, Rule, compare_with_float64, follow_torch, midway
from torch import Tensor

from fastgan import ops

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
NATIVE = needs("the extension")


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("counted", [False, True], ids=["number", "tensor"])
def test_the_trajectory_of_torch(rule: Rule, counted: bool, backend: str) -> None:
    step = torch.zeros(())
    follow_torch(rule, 40_001, backend, **({"step": step} if counted else {}))
    assert step.item() == (20 if counted else 0)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_reference_is_torch_to_the_bit(rule: Rule) -> None:
    generator = torch.Generator().manual_seed(2)
    theirs = torch.nn.Parameter(torch.randn(999, generator=generator))
    ours, state = theirs.detach().clone(), tuple(torch.zeros(999) for _ in range(rule.states))
    optimizer = rule.optimizer(theirs)
    for number in range(1, 6):
        grad = torch.randn(999, generator=generator) * 10.0 ** torch.randint(-6, 3, (999,), generator=generator)
        theirs.grad = grad.clone()
        optimizer.step()
        ops.optim_step(ours, grad, state, **rule.options(step=number), backend="reference")
        assert torch.equal(ours, theirs.detach())


@NATIVE
@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_beside_float64(rule: Rule, dtype: torch.dtype, level: str) -> None:
    for length in (1, 15, 1021, 1024, 1025, 16384, 33_000):
        compare_with_float64(rule, length, dtype, "native")


OPTIONS: dict[str, dict[str, Any]] = {
    "clip": {"weight_clip": 0.01},
    "ema near": {"ema_decay": 0.999},
    "ema far": {"ema_decay": 0.1},
    "ema on the device": {"ema_decay": torch.tensor(0.999, dtype=torch.float64)},
    "scale": {"scale": torch.tensor([1024.0])},
    "odd scale": {"scale": torch.tensor(3.0)},
    "lr on the device": {"lr": torch.tensor([0.02])},
    "step on the device": {"step": torch.tensor([7])},
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


@NATIVE
@pytest.mark.parametrize("rule", FEW, ids=str)
@pytest.mark.parametrize("name", OPTIONS)
def test_options(rule: Rule, name: str, level: str) -> None:
    compare_with_float64(rule, 2500, torch.float32, "native", **OPTIONS[name])


def test_options_do_what_they_say(backend: str) -> None:
    """By formulas written out here, in float64 from float32 values."""
    rule = Rule("sgd", 0.0)
    flat = midway(rule, 777)
    param, grad, ema = flat.param.double(), flat.grad.double() / 4, flat.ema.double()
    options = rule.options(step=1, lr=0.5, weight_clip=0.7, ema=flat.ema, ema_decay=0.9, scale=torch.tensor(4.0))
    ops.optim_step(flat.param, flat.grad, flat.state, **options, backend=backend)
    want = (param - 0.5 * grad).clamp(-0.7, 0.7)
    assert_close(flat.param, want, steps=2, scale=param.abs().max().item())
    assert_close(flat.ema, 0.9 * ema + 0.1 * want, steps=3)


def test_the_average_is_that_of_the_engine(backend: str) -> None:
    for decay in (0.1, 0.5, 0.95, 0.999):
        flat = midway(FEW[0], 3000)
        want = flat.ema.clone()
        options = FEW[0].options(step=2, ema=flat.ema, ema_decay=decay)
        ops.optim_step(flat.param, flat.grad, flat.state, **options, backend=backend)
        torch._foreach_lerp_([want], [flat.param], 1 - decay)
        assert_close(flat.ema, want, steps=3)


@pytest.mark.parametrize("rule", FEW, ids=str)
def test_what_overflowed_changes_nothing(rule: Rule, backend: str) -> None:
    flat, start = midway(rule, 1500), midway(rule, 1500)
    step, found = torch.tensor(4.0), torch.zeros(1)
    flat.grad[1499] = -torch.inf
    ops.check_finite(flat.grad, found, backend=backend)
    options = rule.options(step=step, ema=flat.ema, ema_decay=0.9, weight_clip=0.1, found_inf=found)
    ops.optim_step(flat.param, flat.grad, flat.state, **options, backend=backend)
    assert step == 4 and found == 1
    for have, want in zip(flat.tensors(), start.tensors(), strict=True):
        assert torch.equal(have, want)
    found.zero_()
    flat.grad.clamp_(-1, 1)
    ops.optim_step(flat.param, flat.grad, flat.state, **options, backend=backend)
    assert step == 5
    for have, want in zip(flat.tensors(), start.tensors(), strict=True):
        assert not torch.equal(have, want) and have.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
def test_check_finite(dtype: torch.dtype, bad: float, backend: str) -> None:
    found = torch.zeros(())
    for length in (1, 1000, 50_000):
        grad = torch.randn(length).to(dtype)
        grad[0] = torch.finfo(dtype).max
        ops.check_finite(grad, found, backend=backend)
        ops.check_finite(grad, found, torch.tensor([2.0]), backend=backend)
        assert found == 0
        if dtype != torch.float16:  # whose largest is far from float32's
            ops.check_finite(grad, found, torch.tensor([0.5]), backend=backend)
            assert found == 1
        for at in (0, length // 2, length - 1):
            found.zero_()
            grad[0] = 0
            kept = grad[at].clone()
            grad[at] = bad
            ops.check_finite(grad, found, torch.tensor([2.0]), backend=backend)
            assert found == 1
            ops.check_finite(torch.zeros(3), found, backend=backend)
            assert found == 1, "several checks share it"
            grad[at] = kept
        found.zero_()


@NATIVE
def test_every_half_is_read_right(level: str) -> None:
    """All 65536 of them, by an update that copies the gradient."""
    bits = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16)
    for dtype in (torch.float16, torch.bfloat16):
        grad = bits.view(dtype)
        param = torch.zeros(65536)
        ops.optim_step(param, grad, (), kind="sgd", step=1, lr=1.0, beta1=0.0, beta2=0.0, backend="native")
        want = 0 - grad.float()
        assert torch.equal(param.nan_to_num(7.5, 8.5, 9.5), want.nan_to_num(7.5, 8.5, 9.5))


def test_nan_passes_through_clip_and_average(backend: str) -> None:
    rule = Rule("adam", 0.9)
    flat = midway(rule, 10)
    flat.grad[4] = torch.nan
    options = rule.options(step=2, weight_clip=0.5, ema=flat.ema, ema_decay=0.9)
    ops.optim_step(flat.param, flat.grad, flat.state, **options, backend=backend)
    for tensor in flat.tensors():
        assert tensor.isnan().tolist() == [i == 4 for i in range(10)]


@NATIVE
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_threads_and_neighbors_do_not_matter(rule: Rule) -> None:
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            start = midway(rule, 50_021)
            walls = [torch.full((50_100,), 7.0) for _ in start.tensors()]
            inner = [wall[31:50_052].copy_(each) for wall, each in zip(walls, start.tensors(), strict=True)]
            options = rule.options(step=2, ema=inner[-1], ema_decay=0.9)
            ops.optim_step(inner[0], start.grad, tuple(inner[1:-1]), **options, backend="native")
            for wall in walls:
                assert (wall[:31] == 7).all() and (wall[50_052:] == 7).all()
            results.append([each.clone() for each in inner])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_the_kernel_asked_for_is_the_kernel_that_ran(kernel_calls: list[str]) -> None:
    rule = Rule("adam", 0.9)
    flat, found = midway(rule, 100), torch.zeros(1)
    ops.check_finite(flat.grad, found, backend="reference")
    ops.optim_step(flat.param, flat.grad, flat.state, **rule.options(step=1), backend="reference")
    assert kernel_calls == []
    ops.check_finite(flat.grad, found)
    ops.optim_step(flat.param, flat.grad, flat.state, **rule.options(step=1, found_inf=found))
    assert kernel_calls == ["check_finite_forward", "optim_step_forward"]
    wide = flat.wide()
    ops.optim_step(wide.param, wide.grad, wide.state, **rule.options(step=1))
    assert kernel_calls == ["check_finite_forward", "optim_step_forward"]


@NATIVE
def test_opcheck() -> None:
    flat = midway(Rule("adam", 0.9), 40)
    others = (torch.zeros(1), 0.1, None, 0.9, 0.99, 1e-8, 0.5, flat.ema, 0.9, None, None, torch.zeros(1))
    args = (flat.param, flat.grad, list(flat.state), "adam", 0, *others)
    torch.library.opcheck(torch.ops.fastgan.optim_step.default, args)
    torch.library.opcheck(torch.ops.fastgan.check_finite.default, (flat.grad, torch.zeros(1), None))


@pytest.mark.parametrize("rule", FEW, ids=str)
def test_compiles_without_a_break(rule: Rule, backend: str) -> None:
    def update(param: Tensor, grad: Tensor, state: tuple[Tensor, ...], ema: Tensor, step: Tensor) -> Tensor:
        found = torch.zeros(1)
        ops.check_finite(grad, found, backend=backend)
        options = rule.options(step=step, ema=ema, ema_decay=0.9, found_inf=found)
        ops.optim_step(param, grad, state, **options, backend=backend)
        return param.sum()  # of what was written

    torch._dynamo.reset()
    compiled = torch.compile(update, fullgraph=True, backend="aot_eager")
    have, want = midway(rule, 300), midway(rule, 300)
    counts = torch.ones(1), torch.ones(1)
    for number in range(2, 5):
        told = compiled(have.param, have.grad, have.state, have.ema, counts[0])
        expected = update(want.param, want.grad, want.state, want.ema, counts[1])
        size = want.param.abs().sum().item()  # of the terms, which cancel
        assert_close(told, expected, terms=300, steps=2, scale=size)
        assert counts[0] == counts[1] == number
        for a, b in zip(have.tensors(), want.tensors(), strict=True):
            assert_close(a, b, steps=8 * number)  # a root, a quotient and four weighted sums an update


def test_autograd_sees_the_change(backend: str) -> None:
    param = torch.randn(8, requires_grad=True)
    loss = (param * param).sum()
    ops.optim_step(param, torch.ones(8), (), kind="sgd", step=1, lr=0.1, beta1=0.0, beta2=0.0, backend=backend)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


GOOD = {"kind": "adam", "step": 1, "lr": 0.1, "beta1": 0.9, "beta2": 0.99}
X = torch.zeros(6)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"param": [0.0]}, TypeError, "param must be a torch.Tensor, got list"),
        ({"param": X.bfloat16()}, TypeError, "param must be torch.float32, got torch.bfloat16"),
        ({"param": X.view(2, 3)}, ValueError, "param must be one-dimensional"),
        ({"param": torch.zeros(12)[::2]}, ValueError, "param must be one-dimensional, contiguous"),
        ({"param": torch.zeros(0)}, ValueError, "not empty"),
        ({"grad": torch.zeros(5)}, ValueError, "grad must have the 6 elements of param"),
        ({"grad": torch.zeros(6, dtype=torch.int32)}, TypeError, "grad must be a floating-point tensor"),
        ({"grad": X.double()}, TypeError, "grad must be torch.float32 or torch.bfloat16 or torch.float16"),
        ({"grad": torch.zeros(6, device="meta")}, ValueError, "on cpu, got 6 on meta"),
        ({"state": ()}, ValueError, r"beta1=0.9 must be \(exp_avg, exp_avg_sq\), got 0"),
        ({"state": (X.clone(),), "kind": "rmsprop"}, ValueError, r"\(square_avg, momentum_buffer\), got 1"),
        ({"state": (X.clone(),), "kind": "sgd", "beta1": 0.0}, ValueError, r"must be \(nothing\), got 1"),
        ({"state": torch.zeros(2, 6)}, TypeError, "state must be a tuple of tensors"),
        ({"state": (torch.zeros(6), torch.zeros(7))}, ValueError, "exp_avg_sq must have the 6 elements"),
        ({"state": (X.double(), X.clone())}, TypeError, "exp_avg must be torch.float32 as param is"),
        ({"kind": "lion"}, ValueError, "kind must be one of 'adam', 'rmsprop', 'sgd', got 'lion'"),
        ({"step": 0}, ValueError, "step must be a whole number from 1 on"),
        ({"step": 1.5}, ValueError, "step must be a whole number from 1 on"),
        ({"step": torch.zeros(2)}, ValueError, "step must have one element"),
        ({"step": torch.zeros(1, dtype=torch.int32)}, TypeError, "step must be torch.float32 or torch.int64"),
        ({"lr": -1.0}, ValueError, "lr must be a finite number of at least 0"),
        ({"lr": float("nan")}, ValueError, "lr must be a finite number"),
        ({"lr": torch.zeros(1).half()}, TypeError, "lr must be torch.float32 or torch.float64"),
        ({"beta1": 1.0}, ValueError, "beta1 must be from 0 to below 1"),
        ({"beta2": -0.1}, ValueError, "beta2 must be a finite number of at least 0"),
        ({"eps": -1e-8}, ValueError, "eps must be"),
        ({"weight_clip": 0.0}, ValueError, "weight_clip must be a finite number above 0"),
        ({"ema": torch.zeros(6)}, ValueError, "ema and ema_decay are given together"),
        ({"ema_decay": 0.5}, ValueError, "ema and ema_decay are given together"),
        ({"ema": torch.zeros(6), "ema_decay": 1.5}, ValueError, "ema_decay must be from 0 to 1"),
        ({"ema": torch.zeros(7), "ema_decay": 0.5}, ValueError, "ema must have the 6 elements"),
        ({"scale": 2.0}, TypeError, "scale must be a torch.Tensor, got float"),
        ({"scale": torch.ones(2)}, ValueError, "scale must have one element"),
        ({"found_inf": torch.ones(1, dtype=torch.bool)}, TypeError, "found_inf must be torch.float32"),
        ({"ema": X, "param": X, "ema_decay": 0.5}, ValueError, "must be different tensors"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_refusals(change: dict[str, Any], error: type[Exception], text: str) -> None:
    given = {"param": torch.zeros(6), "grad": torch.zeros(6), "state": (torch.zeros(6), torch.zeros(6)), **GOOD}
    given |= change
    with pytest.raises(error, match=text):
        ops.optim_step(given.pop("param"), given.pop("grad"), given.pop("state"), **given)


@NATIVE
@pytest.mark.parametrize(
    "spoil",
    [
        lambda args: args.__setitem__(1, torch.zeros(3)),
        lambda args: args.__setitem__(2, [torch.zeros(6)]),
        lambda args: args.__setitem__(2, [torch.zeros(6), torch.zeros(4)]),
        lambda args: args.__setitem__(12, torch.zeros(4)),
        lambda args: args.__setitem__(0, torch.zeros(12)[::2]),
    ],
)
def test_a_direct_call_cannot_read_beyond(spoil: Callable[[list[Any]], None]) -> None:
    args: list[Any] = [torch.zeros(6), torch.zeros(6), [torch.zeros(6), torch.zeros(6)], "adam", 1, None, 0.1, None]
    args += [0.9, 0.99, 1e-8, None, torch.zeros(6), 0.5, None, None, None]
    torch.ops.fastgan.optim_step(*args)
    spoil(args)
    with pytest.raises(ValueError):
        torch.ops.fastgan.optim_step(*args)


def test_check_finite_refuses() -> None:
    with pytest.raises(TypeError, match="found_inf must be a"):
        ops.check_finite(torch.zeros(3), None)
    with pytest.raises(ValueError, match="found_inf must have one element"):
        ops.check_finite(torch.zeros(3), torch.zeros(2))
    with pytest.raises(ValueError, match="grad must be one-dimensional"):
        ops.check_finite(torch.zeros(3, 1), torch.zeros(1))
