"""What every op with a native backend promises, by one table of cases: values and gradients beside the float64
reference, layouts, dtypes, instruction sets, gradients of gradients, the compiler's rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from helpers.bounds import assert_close, rounding, unit
from helpers.machine import needs
from torch import Tensor

from fastgan import ops
from fastgan.ops import _native

#: Sums and other roundings in a row behind a result, forward and backward: window means, moments and their quotient,
#: and their pull-back through windows; a mean and a logarithm; matrix products; mean, variance, what is scaled by them
#: and the two means of the pull-back, for both inputs where there are two; a rational function for tanh.
STEPS = {"ssim": 12, "psnr": 6, "gram": 2, "gram_style_loss": 5, "instance_norm": 8, "bias_act": 4, "fuse": 8}
#: Roundings to the inputs' dtype behind an image's gradient, where they are not 1: of the matrix that features are
#: multiplied by too, and of the gradient that ssim makes beside its value and scales later.
ROUNDINGS = {"ssim": 2, "gram": 2, "gram_style_loss": 2}

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    op: str
    #: Of the inputs that have a gradient, by name; "image" shapes take every layout.
    images: dict[str, Shape]
    numbers: dict[str, Shape] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        first = next(iter(self.images.values()))
        shapes = [f"{name}{'x'.join(map(str, shape))}" for name, shape in self.numbers.items()]
        told = [str(value) for value in self.options.values()]
        return "-".join(
            [self.op, "x".join(map(str, first)), *shapes, *(["residual"] * ("residual" in self.images)), *told]
        )

    def inputs(
        self, seed: int, dtype: torch.dtype, layout: Callable[[Tensor], Tensor], mean: float
    ) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        made = {}
        for name, shape in self.images.items():
            made[name] = layout((torch.randn(shape, generator=generator) + mean).to(dtype))
        for name, shape in self.numbers.items():
            made[name] = torch.randn(shape, generator=generator)
        return made

    def terms(self, name: str) -> int:
        """The longest sum behind a result: the value or the gradient of an input."""
        n, c = next(iter(self.images.values()))[:2]
        plane = max(h * w for _, _, h, w in self.images.values())
        if name in self.numbers:
            return {"alpha": c * plane, "target": plane}.get(name, n * plane)
        if self.op == "bias_act" or self.options.get("mode") in ("additive", "convex"):
            return 1
        if self.op in ("gram", "gram_style_loss"):
            return max(plane, c * c)
        return plane if self.op in ("instance_norm", "fuse") else c * plane

    def run(self, inputs: dict[str, Tensor], backend: str) -> Tensor:
        return getattr(ops, self.op)(**inputs, **self.options, backend=backend)


def pair(op: str, *shape: int, **options: Any) -> Case:
    return Case(op, {"x": shape, "y": shape}, {}, {**options, "reduction": "none"})


def features(op: str, *shape: int, **numbers: Shape) -> Case:
    return Case(op, {"x": shape}, numbers, {} if op == "gram" else {"reduction": "none"})


def norm(*shape: int, residual: bool = False, numbers: dict[str, Shape] | None = None, **options: Any) -> Case:
    images = {"x": shape, **({"residual": shape} if residual else {})}
    return Case("instance_norm", images, numbers or {}, options)


def fused(mode: str, *shape: int, plane: tuple[int, ...] = ()) -> Case:
    images = {"content": shape, "style": (*shape[:2], *(plane or shape[2:]))}
    return Case("fuse", images, {"alpha": shape[:1]}, {"mode": mode})


CASES = [
    pair("ssim", 1, 1, 11, 11, data_range=4.0),
    pair("ssim", 2, 3, 12, 139, data_range=4.0),
    pair("ssim", 1, 2, 45, 14, data_range=4.0, window="uniform", window_size=7),
    pair("ssim", 2, 1, 9, 20, data_range=4.0, window_size=5, sigma=0.8),
    pair("ssim", 1, 1, 30, 33, data_range=4.0, window_size=29, sigma=6.0),
    pair("ssim", 1, 1, 150, 40, data_range=4.0),
    pair("psnr", 1, 1, 1, 1),
    pair("psnr", 3, 3, 13, 17, data_range=255.0),
    pair("psnr", 1, 2, 130, 150),
    features("gram", 1, 1, 1, 1),
    features("gram", 2, 3, 5, 7),
    features("gram", 1, 17, 9, 11),
    features("gram", 3, 64, 12, 16),
    features("gram", 1, 130, 1, 3),
    features("gram_style_loss", 2, 5, 7, 3, target=(5, 5)),
    features("gram_style_loss", 2, 33, 6, 31, target=(2, 33, 33)),
    norm(1, 1, 2, 2),
    norm(2, 3, 7, 5, activation="relu", numbers={"weight": (3,), "bias": (3,)}),
    norm(2, 17, 6, 9, activation="leaky_relu", negative_slope=0.3, numbers={"weight": (2, 17), "bias": (2, 17)}),
    norm(3, 32, 16, 16, activation="tanh", residual=True, numbers={"bias": (32,)}),
    norm(1, 2, 90, 70, activation="relu", residual=True, numbers={"weight": (2,)}),
    Case("bias_act", {"x": (1, 1, 1, 1)}, {"bias": (1,)}),
    Case("bias_act", {"x": (2, 5, 7, 3)}, {"bias": (5,)}, {"activation": "relu", "gain": 1.4}),
    Case("bias_act", {"x": (2, 33, 9, 31)}, {"bias": (33,)}, {"activation": "leaky_relu", "clamp": 0.7}),
    Case("bias_act", {"x": (3, 16, 8, 8)}, {}, {"activation": "tanh", "gain": -2.0, "clamp": 1.5}),
    fused("adain", 1, 1, 1, 1),
    fused("additive", 2, 33, 9, 31),
    fused("convex", 3, 5, 7, 3),
    fused("adain", 1, 64, 40, 24, plane=(150, 121)),
    fused("adain", 3, 17, 6, 9, plane=(5, 13)),
]
#: One of each op for what does not depend on sizes.
FEW = list({case.op: case for case in CASES if 1 not in next(iter(case.images.values()))}.values())

pytestmark = needs("the extension")


def value_and_gradients(
    case: Case, inputs: dict[str, Tensor], backend: str, seed: int = 1, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """`dtype` is what the result's gradient is rounded to, in whatever dtype it is then given."""
    leaves = {name: value.detach().requires_grad_() for name, value in inputs.items()}
    result = case.run(leaves, backend)
    gradients = torch.autograd.grad(result, list(leaves.values()), cotangent(case, inputs, result, seed, dtype))
    return [result.detach(), *gradients]


def smooth(case: Case, inputs: dict[str, Tensor]) -> Tensor:
    """0 where rounding decides on which side of a kink a value lies, and so its derivative; 1 elsewhere."""
    activation, clamp = case.options.get("activation"), case.options.get("clamp")
    if activation not in ("relu", "leaky_relu") and clamp is None:
        return torch.ones(())
    wide = {name: value.detach().double() for name, value in inputs.items() if name != "residual"}
    error = rounding(case.terms("x"), STEPS[case.op]) * (1 + wide["x"].mean().abs())
    kept = torch.ones(wide["x"].shape, dtype=torch.bool, device=wide["x"].device)
    if activation in ("relu", "leaky_relu"):
        before = getattr(ops, case.op)(**wide, backend="reference")
        kept &= before.abs() > error * before.abs().max()
    if clamp is not None:
        free = {name: value for name, value in case.options.items() if name != "clamp"}
        before = getattr(ops, case.op)(**wide, **free, backend="reference")
        kept &= (before.abs() - clamp).abs() > error * before.abs().max()
    return kept.float().cpu()


def cotangent(
    case: Case, inputs: dict[str, Tensor], result: Tensor, seed: int = 1, dtype: torch.dtype = torch.float32
) -> Tensor:
    made = torch.randn(result.shape, generator=torch.Generator().manual_seed(seed))
    if result.dim() == 4:
        made = made[:, :, :1, :1].expand(result.shape) + made
    if result.dim() == 4 and seed == 2:
        # As the gradient of a mean comes: one number for each image, expanded over it.
        return made[:, :1, :1, :1].to(dtype).to(result).expand(result.shape)
    return (made * smooth(case, inputs)).to(dtype).to(result)


def near(case: Case, name: str, have: Tensor, want: Tensor, times: int = 1) -> None:
    """Two computations of one thing in float32, each of `times` runs forward and backward."""
    assert_close(have, want, terms=case.terms(name), steps=2 * times * STEPS[case.op])


def compare(
    case: Case,
    layout: Callable[[Tensor], Tensor],
    dtype: torch.dtype,
    mean: float = 0.0,
    seed: int = 1,
    device: str = "cpu",
) -> None:
    made_inputs = case.inputs(7, dtype, lambda x: x, mean)
    inputs = {
        name: layout(value.to(device)) if name in case.images else value.to(device)
        for name, value in made_inputs.items()
    }
    if seed == 2:  # a gradient that is expanded cannot leave elements out
        while (beside := smooth(case, inputs) == 0).any():
            inputs["x"][beside] += 0.25
    wide = {name: value.double() for name, value in inputs.items()}
    exact = value_and_gradients(case, wide, "reference", seed, dtype)
    same_dtype = value_and_gradients(case, inputs, "reference", seed, dtype)
    have = value_and_gradients(case, inputs, "native", seed, dtype)
    for name, want, plain, made in zip(["value", *inputs], exact, same_dtype, have, strict=True):
        assert made.dtype == plain.dtype and made.shape == plain.shape, name
        largest = want.abs().max().item()
        roundings = ROUNDINGS.get(case.op, 1) if name in case.images else 1
        # The inputs are normal, and so sums of them with a mean of 0: partial sums grow as the root of their number,
        # and the bound holds of the sum itself (Higham and Mary, SIAM J. Sci. Comput. 42, 2020).
        floor = rounding(case.terms(name), STEPS[case.op]) * largest
        floor += roundings * unit(made.dtype) * max(largest, torch.finfo(made.dtype).smallest_normal)
        if case.op in ("instance_norm", "fuse"):
            # A mean is known to its rounding: values behind it are that far off, and gradients by that share.
            floor += rounding(1, STEPS[case.op]) * mean * (1 if name == "value" else largest)
        allowed = 2 * (plain.double() - want).abs().max().item() + floor
        error = (made.double() - want).abs().max().item()
        assert error <= allowed, f"{name}: error {error:.3g}, allowed {allowed:.3g}, largest {largest:.3g}"


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
            near(case, name, have, expected)


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
        near(case, wanted, have, want[wanted])


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
            near(case, of, penalty("native", of), want, times=2)
            continue
        with pytest.raises(RuntimeError, match="second_order"):
            penalty("native", of)
        kernel_calls.clear()
        with ops.second_order():
            have = penalty(None, of)
            with pytest.raises(ValueError, match=r"no ops\.second_order\(\)"):
                penalty("native", of)
        assert kernel_calls == []
        near(case, next(iter(inputs)), have, want, times=2)


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
    near(case, name, torch.func.grad(value)(x), want)
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
        near(case, name, have, expected)


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
