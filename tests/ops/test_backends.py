"""The contract of every op with a native backend, by one table of cases: values and gradients beside the float64
reference, layouts, dtypes, instruction sets, gradients of gradients, the compiler's rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.backend_cases import (
    CASES,
    FEW,
    STEPS,
    Case,
    assert_close_to_case,
    compare,
    cotangent,
    features,
    fused,
    norm,
    smooth,
    value_and_gradients,
)
from helpers.bounds import assert_close
from helpers.machine import needs
from torch import Tensor

from fastgan import ops
from fastgan.ops import _native

pytestmark = needs("the extension")


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_values_and_gradients(case: Case, dtype: torch.dtype, level: str) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(3)  # so that images are cut into strips
    try:
        compare(case, lambda x: x, dtype)
        compare(case, lambda x: x.contiguous(memory_format=torch.channels_last), dtype)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layouts(case: Case, layout: Callable[[Tensor], Tensor]) -> None:
    compare(case, layout, torch.float32)
    compare(case, layout, torch.bfloat16, seed=2)


@pytest.mark.parametrize("case", [case for case in FEW if case.op != "bias_act"], ids=str)
def test_large_means(case: Case) -> None:
    """Nothing is lost to a mean of 1000 that the reference keeps."""
    compare(case, lambda x: x, torch.float32, mean=1000.0)


@pytest.mark.parametrize("last", [False, True], ids=["nchw", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    "case",
    [
        norm(1, 64, 300, 460, activation="relu", residual=True, numbers={"weight": (64,), "bias": (64,)}),
        features("gram_style_loss", 2, 64, 300, 240, target=(64, 64)),
        features("gram_style_loss", 2, 64, 300, 224, target=(64, 64), windows={"windows": (2, 2)}),
        Case("bias_act", {"x": (1, 64, 300, 460)}, {"bias": (64,)}, {"activation": "leaky_relu"}),
        fused("convex", 1, 64, 300, 460),
    ],
    ids=lambda case: case.op,
)
def test_outputs_that_no_cache_holds(case: Case, dtype: torch.dtype, last: bool) -> None:
    """They are written past the caches."""
    compare(case, lambda x: x.contiguous(memory_format=torch.channels_last) if last else x, dtype)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_inputs_of_mixed_layouts(case: Case) -> None:
    inputs = case.inputs(7, torch.float32, lambda x: x, 0.0)
    want = value_and_gradients(case, inputs, "native")
    last = list(case.images)[-1]
    for turned in ({last}, set(case.images) - {last}):
        mixed = {
            name: value.contiguous(memory_format=torch.channels_last) if name in turned else value
            for name, value in inputs.items()
        }
        made = value_and_gradients(case, mixed, "native")
        for name, have, expected in zip(["value", *inputs], made, want, strict=True):
            assert_close_to_case(case, name, have, expected)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_expanded_inputs(case: Case) -> None:
    """Strides of 0, of one image for all and of one row for all."""
    compare(case, lambda x: x[:1].expand(x.shape), torch.float32)
    compare(case, lambda x: x[:, :, :1].expand(x.shape), torch.float32)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_every_subset_of_gradients(case: Case) -> None:
    inputs = case.inputs(7, torch.float32, lambda x: x, 0.0)
    want = dict(zip(inputs, value_and_gradients(case, inputs, "native")[1:], strict=True))
    for wanted in inputs:
        leaves = {name: value.detach().requires_grad_(name == wanted) for name, value in inputs.items()}
        result = case.run(leaves, "native")
        (have,) = torch.autograd.grad(result, leaves[wanted], cotangent(case, inputs, result))
        assert_close_to_case(case, wanted, have, want[wanted])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_same_bits_every_time_and_for_any_thread_count(case: Case) -> None:
    inputs = case.inputs(7, torch.float32, lambda x: x, 0.0)
    threads = torch.get_num_threads()
    try:
        made = []
        for count in (1, 1, 2, 3):
            torch.set_num_threads(count)
            made.append(value_and_gradients(case, inputs, "native"))
    finally:
        torch.set_num_threads(threads)
    for again in made[1:]:
        assert all(torch.equal(a, b) for a, b in zip(made[0], again, strict=True))


@pytest.mark.parametrize("case", FEW, ids=str)
def test_nothing_is_left_unwritten(case: Case, request: pytest.FixtureRequest) -> None:
    inputs = case.inputs(7, torch.float32, lambda x: x, 0.0)
    want = value_and_gradients(case, inputs, "native")
    request.getfixturevalue("poisoned")
    have = value_and_gradients(case, inputs, "native")
    assert all(torch.equal(a, b) for a, b in zip(have, want, strict=True))


@pytest.mark.parametrize("case", FEW, ids=str)
def test_inputs_stay_and_nothing_around_them_is_read(case: Case) -> None:

    def walled(x: Tensor) -> Tensor:
        return torch.nn.functional.pad(x, (3, 5, 2, 4), value=float("nan"))[:, :, 2:-4, 3:-5]

    inputs = case.inputs(7, torch.float32, walled, 0.0)
    before = {name: value.clone() for name, value in inputs.items()}
    for made in value_and_gradients(case, inputs, "native"):
        assert made.isfinite().all()
    assert all(torch.equal(inputs[name], before[name]) for name in inputs)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_the_kernel_asked_for_is_the_kernel_that_ran(case: Case, kernel_calls: list[str]) -> None:
    inputs = case.inputs(7, torch.float32, lambda x: x, 0.0)
    value_and_gradients(case, inputs, "reference")
    assert kernel_calls == []
    value_and_gradients(case, inputs, "native")
    # SSIM's forward makes its gradients too.
    assert kernel_calls == [f"{case.op}_forward"] + ([f"{case.op}_backward"] if case.op != "ssim" else [])
    kernel_calls.clear()
    with torch.no_grad():
        getattr(ops, case.op)(**inputs, **case.options)
    assert kernel_calls == [f"{case.op}_forward"]


@pytest.mark.parametrize("case", FEW, ids=str)
def test_float64_goes_by_the_reference(case: Case, kernel_calls: list[str]) -> None:
    inputs = {name: value.double() for name, value in case.inputs(7, torch.float32, lambda x: x, 0.0).items()}
    assert getattr(ops, case.op)(**inputs, **case.options).dtype == torch.float64
    assert kernel_calls == []
    with pytest.raises(ValueError, match=f"{case.op} cannot use 'native' here: it takes float32, bfloat16"):
        case.run(inputs, "native")


@pytest.mark.parametrize("case", FEW, ids=str)
def test_a_second_differentiation_raises_or_goes_by_the_reference(case: Case, kernel_calls: list[str]) -> None:
    """A penalty on the gradient: never a silently wrong one."""
    inputs = case.inputs(7, torch.float32, lambda x: x, 0.0)

    def penalty(backend: str | None, of: str) -> Tensor:
        leaves = {name: value.detach().requires_grad_() for name, value in inputs.items()}
        result = getattr(ops, case.op)(**leaves, **case.options, backend=backend) * smooth(case, inputs)
        (gradient,) = torch.autograd.grad(result.square().sum(), leaves[of], create_graph=True)
        loss = gradient.square().sum() + result.sum()
        return torch.autograd.grad(loss, next(iter(leaves.values())))[0]

    for of in set(inputs) - {"residual"}:  # whose gradient is the result's own
        want = penalty("reference", of)
        if case.op == "bias_act":
            assert_close_to_case(case, of, penalty("native", of), want, times=2)
            continue
        with pytest.raises(RuntimeError, match="second_order"):
            penalty("native", of)
        kernel_calls.clear()
        with ops.second_order():
            have = penalty(None, of)
            with pytest.raises(ValueError, match=r"no ops\.second_order\(\)"):
                penalty("native", of)
        assert kernel_calls == []
        assert_close_to_case(case, next(iter(inputs)), have, want, times=2)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_transforms_go_by_the_reference(case: Case, kernel_calls: list[str]) -> None:
    """torch.func and forward mode, which the registered ops do not know."""
    inputs = case.inputs(7, torch.float32, lambda x: x, 0.0)
    name, x = next(iter(inputs.items()))

    def value(x: Tensor) -> Tensor:
        return (getattr(ops, case.op)(**{**inputs, name: x}, **case.options) * kept).square().sum()

    kept = smooth(case, inputs)

    leaf = x.clone().requires_grad_()
    with ops.second_order():
        (want,) = torch.autograd.grad(value(leaf), leaf)
    kernel_calls.clear()
    assert_close_to_case(case, name, torch.func.grad(value)(x), want)
    direction = torch.ones_like(x)
    _, tangent = torch.func.jvp(value, (x,), (direction,))
    size = want.abs().sum().item()  # of the terms, which cancel
    assert_close(tangent, (want * direction).sum(), terms=want.numel(), steps=2 * STEPS[case.op], scale=size)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, direction)
        told = torch.autograd.forward_ad.unpack_dual(value(dual)).tangent
    assert_close(told, tangent, terms=want.numel(), steps=2 * STEPS[case.op], scale=size)
    assert kernel_calls == []


@pytest.mark.parametrize("case", FEW, ids=str)
def test_opcheck(case: Case) -> None:
    inputs = case.inputs(7, torch.float32, lambda x: x, 0.0)
    captured: dict[str, tuple[Any, ...]] = {}

    class Capture(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function.namespace == "fastgan":
                captured[function._schema.name] = (function, args)
            return function(*args, **(kwargs or {}))

    with Capture():
        value_and_gradients(case, inputs, "native")
    backward = "ssim_scale" if case.op == "ssim" else case.op
    assert set(captured) == {f"fastgan::{case.op}", f"fastgan::{backward}_backward"}
    for function, args in captured.values():
        given = tuple(arg.detach().clone() if isinstance(arg, Tensor) else arg for arg in args)
        if "backward" not in function._schema.name:
            given = tuple(arg.requires_grad_() if isinstance(arg, Tensor) else arg for arg in given)
        if function._schema.name == "fastgan::ssim":
            # The rest would differentiate every output, and the gradients that ssim gives beside its value refuse that.
            some = ("test_schema", "test_autograd_registration", "test_faketensor")
            torch.library.opcheck(function, given, test_utils=some)
            given = tuple(arg.detach() if isinstance(arg, Tensor) else arg for arg in args)
        torch.library.opcheck(function, given)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_compiles_without_a_break(case: Case) -> None:
    inputs = case.inputs(7, torch.float32, lambda x: x, 0.0)
    want = value_and_gradients(case, inputs, "native")

    torch._dynamo.reset()
    compiled = torch.compile(lambda given: case.run(given, "native"), fullgraph=True, backend="aot_eager")
    leaves = {name: value.detach().requires_grad_() for name, value in inputs.items()}
    result = compiled(leaves)
    made = [result.detach(), *torch.autograd.grad(result, list(leaves.values()), cotangent(case, inputs, result))]
    for name, have, expected in zip(["value", *inputs], made, want, strict=True):
        assert_close_to_case(case, name, have, expected)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_autocast_changes_nothing(case: Case) -> None:
    inputs = case.inputs(7, torch.float32, lambda x: x, 0.0)
    want = case.run(inputs, "native")
    with torch.autocast("cpu", torch.bfloat16):
        have = case.run(inputs, "native")
    assert have.dtype == want.dtype and torch.equal(have, want)


@needs("the extension on a GPU")
@pytest.mark.parametrize("case", [case for case in CASES if case.op != "fuse"], ids=str)
@pytest.mark.parametrize("dtype", _native.DTYPES["cuda"], ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_on_a_gpu(case: Case, dtype: torch.dtype) -> None:
    """On a stream of its own, whose work the default stream's must not run ahead of."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        compare(case, lambda x: x, dtype, device="cuda")
        compare(case, lambda x: x.contiguous(memory_format=torch.channels_last), dtype, device="cuda")
        compare(case, lambda x: x.transpose(2, 3).contiguous().transpose(2, 3), dtype, device="cuda")
    stream.synchronize()


def test_relu_is_zero_below_and_stops_infinities() -> None:
    """Exactly 0, not -0, and no product of 0 with an infinity."""
    x = torch.randn(1, 2, 9, 9, requires_grad=True)
    for make in (ops.instance_norm, ops.bias_act):
        result = make(x, activation="relu", backend="native")
        dead = result == 0
        assert dead.any() and not torch.signbit(result[dead]).any()
        gradient = torch.where(dead, torch.inf, 0.0)
        (back,) = torch.autograd.grad(result, x, gradient)
        assert (back == 0).all()
    infinite = torch.tensor([-torch.inf, torch.nan]).view(1, 1, 1, 2)
    result = ops.bias_act(infinite, activation="relu", backend="native").flatten()
    assert result[0] == 0 and result[1].isnan()


def test_gradients_from_the_limit_of_a_clamp_on_and_of_identical_images(backend: str) -> None:
    x = torch.tensor([0.5, 1.0, -1.0, 2.0]).view(1, 1, 1, 4).requires_grad_()
    (gradient,) = torch.autograd.grad(ops.bias_act(x, clamp=1.0, backend=backend).sum(), x)
    assert gradient.flatten().tolist() == [1, 0, 0, 0]
    y = x.detach().clone()
    (gradient,) = torch.autograd.grad(ops.psnr(x, y, backend=backend), x)
    assert (gradient == 0).all()
