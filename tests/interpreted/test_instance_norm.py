"""instance_norm in Triton beside the float64 reference: both ways to hold a plane, every layout, dtype and option."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.bounds import STORED, assert_close, rounding
from torch import Tensor

from fastgan import ops
from fastgan.ops import _triton

module: Any = importlib.import_module("fastgan.ops.instance_norm.triton")

#: Roundings in a row: mean, variance, its root, what is scaled by them, and the two means of the pull-back.
STEPS = 8
HELD = ["instance_norm_fwd_kernel", "instance_norm_bwd_kernel"]
SWEPT = [f"instance_norm_{part}_kernel" for part in ("stats", "apply", "bwd_sums", "bwd_apply")]

Layout = Callable[[Tensor], Tensor]
Shape = tuple[int, ...]
Inputs = dict[str, Tensor]


def last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def plain(x: Tensor) -> Tensor:
    return x


@pytest.fixture(params=["held", "swept"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Small planes by either set of kernels: the names of those that run."""
    if request.param == "held":
        return HELD
    sweep(monkeypatch)
    return SWEPT


def sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_held_configs", lambda *_: ())


def make(
    shape: Shape,
    layout: Layout = plain,
    dtype: torch.dtype = torch.float32,
    *,
    mean: float = 0.0,
    residual: bool = True,
    weight: str = "image",
    bias: str = "channel",
) -> Inputs:
    generator = torch.Generator().manual_seed(7)
    images = ["x", *(["residual"] if residual else [])]
    made = {name: layout((torch.randn(shape, generator=generator) + mean).to(dtype)) for name in images}
    sizes = {"image": shape[:2], "channel": shape[1:2]}
    for name, kind in (("weight", weight), ("bias", bias)):
        if kind:
            made[name] = torch.randn(sizes[kind], generator=generator)
    return made


def value_and_gradients(
    inputs: Inputs, backend: str, *, flat: bool = False, cotangent_dtype: torch.dtype = torch.float32, **options: Any
) -> list[Tensor]:
    leaves = {name: value.detach().requires_grad_() for name, value in inputs.items()}
    result = ops.instance_norm(**leaves, **options, backend=backend)
    cotangent = torch.randn(result.shape, generator=torch.Generator().manual_seed(1)).to(cotangent_dtype).to(result)
    beside = kink(inputs, **options)
    if flat:  # as the gradient of a mean comes: one number for each image, expanded over it
        assert not beside.any()
        cotangent = cotangent[:, :1, :1, :1].expand(result.shape)
    elif beside.any():
        cotangent = cotangent.masked_fill(beside, 0)
    return [result.detach(), *torch.autograd.grad(result, list(leaves.values()), cotangent)]


def kink(inputs: Inputs, activation: str | None = None, **options: Any) -> Tensor:
    """Where rounding decides on which side of a kink a value lies, and so its derivative."""
    wide = {name: value.detach().double() for name, value in inputs.items() if name != "residual"}
    if activation not in ("relu", "leaky_relu"):
        return torch.zeros((), dtype=torch.bool)
    before = ops.instance_norm(**wide, eps=options.get("eps", 1e-5), backend="reference").abs()
    return before < rounding(before[0, 0].numel(), STEPS) * (1 + wide["x"].mean().abs()) * before.max()


def compare(inputs: Inputs, names: list[str] | None = None, **options: Any) -> None:
    wide = {name: value.double() for name, value in inputs.items()}
    exact = value_and_gradients(wide, "reference", cotangent_dtype=inputs["x"].dtype, **options)
    same_dtype = value_and_gradients(inputs, "reference", **options)
    with _triton.recorded(run=True) as launches:
        have = value_and_gradients(inputs, "triton", **options)
    if names is not None:
        assert [launch.name for launch in launches] == names
    plane, mean = inputs["x"][0, 0].numel(), inputs["x"].double().mean().abs().item()
    for name, want, other, made in zip(["value", *inputs], exact, same_dtype, have, strict=True):
        assert made.dtype == other.dtype and made.shape == other.shape, name
        largest = want.abs().max().item()
        terms = plane if want.dim() == 4 else plane * len(inputs["x"])
        floor = (STORED[made.dtype] + rounding(terms, STEPS)) * largest
        # A mean is known to its rounding: values behind it are that far off, and gradients by that share.
        floor += rounding(1, STEPS) * mean * (1 if name == "value" else largest)
        allowed = 2 * (other.double() - want).abs().max().item() + floor
        error = (made.double() - want).abs().max().item()
        assert error <= allowed, f"{name}: error {error:.3g}, allowed {allowed:.3g}, largest {largest:.3g}"


@pytest.mark.parametrize("dtype", _triton.DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (2, 3, 7, 5), (1, 17, 8, 8), (1, 33, 13, 5)], ids=str)
def test_values_and_gradients(shape: Shape, dtype: torch.dtype, layout: Layout, kernels: list[str]) -> None:
    compare(make(shape, layout, dtype), kernels, activation="leaky_relu", negative_slope=0.3)


@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu", "tanh"])
@pytest.mark.parametrize("layout", [plain, last])
def test_every_option(activation: str | None, layout: Layout, kernels: list[str]) -> None:
    sizes = ["", "channel", "image"]
    for number, (weight, bias) in enumerate(itertools.product(sizes, sizes)):
        inputs = make((1, 3, 7, 5), layout, residual=number % 2 == 0, weight=weight, bias=bias)
        compare(inputs, kernels, activation=activation, eps=10.0 ** -(number + 1))


@pytest.mark.parametrize("width", [1023, 1024, 1025])
def test_held_planes_at_the_edge_of_a_tile(width: int) -> None:
    compare(make((1, 3, 1, width)), HELD, activation="relu")
    compare(make((1, 9, width // 8, 1), last), HELD, activation="relu")


@pytest.mark.parametrize("width", [1023, 1024, 1025, 2047, 2048, 2049, 4095, 4096, 4097])
def test_swept_planes_at_the_edge_of_a_tile_and_of_a_chunk(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(monkeypatch)
    compare(make((2, 2, width, 1)), SWEPT, activation="relu")
    # A chunk is of 256 pixels here, and of 128 where channels are many.
    compare(make((1, 3, 1, width // 4), last), SWEPT, activation="relu")
    compare(make((1, 19, 1, width // 8), last), SWEPT, activation="relu")


def test_which_planes_are_held() -> None:
    def ran(*shape: int, layout: Layout = plain, dtype: torch.dtype = torch.float32) -> list[str]:
        x = layout(torch.empty(shape, dtype=dtype))
        moments = torch.empty(shape[:2])
        with _triton.recorded() as launches:
            module.forward(x, None, None, None, None, 0.0, 1e-5)
            module.backward(x, x, None, None, moments, moments, None, 0.0, True, True, True)
        return [launch.name for launch in launches]

    assert ran(2, 3, 64, 128) == HELD
    assert ran(2, 3, 128, 128) == HELD[:1] + SWEPT[2:]
    assert ran(2, 3, 128, 129) == SWEPT
    assert ran(2, 64, 32, 32, layout=last) == HELD
    assert ran(2, 64, 32, 32, layout=last, dtype=torch.bfloat16) == HELD[:1] + SWEPT[2:]
    assert ran(2, 64, 64, 64, layout=last) == SWEPT


@pytest.mark.parametrize("table", ["HELD_NCHW", "HELD_CHANNELS_LAST", "SWEEP_NCHW", "SWEEP_CHANNELS_LAST"])
@pytest.mark.parametrize("number", range(11))
def test_every_configuration(table: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    choices = getattr(module, table)
    if number >= len(choices):
        return
    choice = choices[number]
    monkeypatch.setattr(module, table, (choice,))
    block = choice["BLOCK_C"]
    channels = block - 1 if block in (4, 8) else block + 3
    layout = last if table.endswith("LAST") else plain
    if table.startswith("SWEEP"):
        sweep(monkeypatch)
        pixels = 2 * choice["BLOCK_P"] + 5
    else:
        pixels = 21
    inputs = make((2, channels, 1, pixels), layout)
    with _triton.recorded(run=True) as launches:
        value_and_gradients(inputs, "triton")
    assert launches and all(launch.choices == (choice,) for launch in launches)
    compare(inputs, SWEPT if table.startswith("SWEEP") else HELD, activation="leaky_relu")


@pytest.mark.parametrize("shape", [(8, 512, 4, 4), (4, 64, 64, 64), (1, 3, 512, 512), (1, 32, 256, 256)], ids=str)
@pytest.mark.parametrize("layout", [plain, last])
def test_tables_offer_a_choice_and_few_planes_are_cut_into_many_chunks(shape: Shape, layout: Layout) -> None:
    x = layout(torch.empty(shape))
    moments = torch.empty(shape[:2])
    with _triton.recorded() as launches:
        module.forward(x, None, None, None, None, 0.0, 1e-5)
        module.backward(x, x, None, None, moments, moments, None, 0.0, True, True, True)
    for launch in launches:
        assert 1 <= len(launch.choices) <= 4
        programs = [len(range(launch.grid(choice)[0])) * (*launch.grid(choice), 1)[1] for choice in launch.choices]
        assert max(programs) >= min(128, x.numel() // 8192)


@pytest.mark.parametrize("layout", [plain, last])
@pytest.mark.parametrize("activation", [None, "tanh"])
def test_a_large_mean_keeps_the_variance(layout: Layout, activation: str | None, kernels: list[str]) -> None:
    inputs = make((2, 3, 31, 17), layout, mean=1000.0, residual=False)
    compare(inputs, kernels, activation=activation)
    exact = ops.instance_norm(**{name: value.double() for name, value in inputs.items()}, backend="reference")
    have = ops.instance_norm(**inputs, backend="triton")
    # The mean is known far better than float32 has room for at 1000, where its step is 6e-5. Sums are trees, in which a
    # value takes part in log2(31 * 17) < 10 additions.
    assert_close(have, exact, terms=10, steps=3)


@pytest.mark.parametrize("layout", [plain, last])
def test_a_corner_unlike_the_rest_keeps_the_variance(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first tile is constant and far from what follows: no center of its own may be taken from it."""
    sweep(monkeypatch)
    monkeypatch.setattr(module, "PROGRAMS", 1)  # one chunk of many tiles
    x = torch.randn(1, 3, 1, 20000 if layout is plain else 5000, generator=torch.Generator().manual_seed(3))
    x += 1000
    x[..., : 1024 if layout is plain else 256] = 0
    x = layout(x)
    _, mean, rstd = module.forward(x, None, None, None, None, 0.0, 1e-5)
    variance, center = torch.var_mean(x.double(), (2, 3), correction=0)
    # About a center of 0 the squares would be 20 times the variance, and so would its error.
    assert_close(mean, center)
    assert_close(rstd, (variance + 1e-5).rsqrt())


@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu", "tanh"])
@pytest.mark.parametrize("value", [0.1, -1000.1, 3e4])
def test_a_plane_of_one_pixel_gives_the_bias_and_no_gradient(
    activation: str | None, value: float, kernels: list[str]
) -> None:
    inputs = make((3, 5, 1, 1), mean=value)
    have, by_x, by_residual, by_weight, by_bias = value_and_gradients(inputs, "triton", activation=activation)
    exact = ops.bias_act(torch.zeros(3, 5, 1, 1), inputs["bias"], activation=activation, backend="reference")
    exact = exact + inputs["residual"]
    if activation == "tanh":
        assert_close(have, exact, steps=4)
    else:
        assert torch.equal(have, exact)
    assert (by_x == 0).all() and (by_weight == 0).all()
    assert by_bias.shape == (5,) and not (by_bias == 0).all() and not (by_residual == 0).any()


def test_a_constant_plane_gives_the_bias(kernels: list[str]) -> None:
    for eps in (1e-5, 1e-30):
        inputs = {"x": torch.full((1, 2, 13, 11), 1000.1), "bias": torch.tensor([0.3, -0.7])}
        have, by_x, _ = value_and_gradients(inputs, "triton", eps=eps)
        assert torch.equal(have, inputs["bias"].view(1, 2, 1, 1).expand(have.shape))
        assert by_x.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_expanded_inputs_and_gradients(dtype: torch.dtype, kernels: list[str]) -> None:
    """Strides of 0."""
    for expand in (
        lambda x: x[:1].expand(x.shape),
        lambda x: x[:, :1].expand(x.shape),
        lambda x: x[:, :, :1].expand(x.shape),
    ):
        compare(make((2, 5, 7, 6), expand, dtype), kernels, flat=True, activation="relu")


def test_inputs_of_mixed_layouts(kernels: list[str]) -> None:
    inputs = make((2, 5, 7, 6))
    want = value_and_gradients(inputs, "triton", activation="tanh")
    for turned in ("x", "residual"):
        mixed = {**inputs, turned: last(inputs[turned])}
        for have, expected in zip(value_and_gradients(mixed, "triton", activation="tanh"), want, strict=True):
            assert_close(have, expected, terms=2 * 7 * 6, steps=2 * STEPS)


def test_inputs_stay_and_nothing_around_them_is_read(kernels: list[str]) -> None:
    def walled(x: Tensor) -> Tensor:
        return torch.nn.functional.pad(x, (3, 5, 2, 4), value=float("nan"))[:, :, 2:-4, 3:-5]

    inputs = make((2, 5, 7, 6), walled)
    before = {name: value.clone() for name, value in inputs.items()}
    first, again = (value_and_gradients(inputs, "triton", activation="relu") for _ in range(2))
    for made, same in zip(first, again, strict=True):
        assert made.isfinite().all() and torch.equal(made, same)
    assert all(torch.equal(inputs[name], before[name]) for name in inputs)


def test_nan_stays_in_its_plane(kernels: list[str]) -> None:
    inputs = make((2, 3, 7, 5))
    inputs["x"][1, 2, 3, 3] = float("nan")
    for activation in ("relu", "tanh"):
        result = ops.instance_norm(**inputs, activation=activation, backend="triton")
        assert result[1, 2].isnan().all() and result.isnan().sum() == 35


def test_relu_is_zero_below_and_stops_infinities(kernels: list[str]) -> None:
    x = torch.randn(1, 2, 9, 9, generator=torch.Generator().manual_seed(0)).requires_grad_()
    result = ops.instance_norm(x, activation="relu", backend="triton")
    dead = result == 0
    assert dead.any() and not torch.signbit(result[dead]).any()
    (back,) = torch.autograd.grad(result, x, torch.where(dead, torch.inf, 0.0))
    assert (back == 0).all()


@pytest.mark.parametrize("layout", [plain, last])
def test_every_subset_of_gradients(layout: Layout, kernels: list[str]) -> None:
    """Gradients that are not asked for are not written, and without grad_x no second pass is run over the planes."""
    inputs = make((1, 3, 33, 63), layout)
    want = dict(zip(inputs, value_and_gradients(inputs, "triton", activation="leaky_relu")[1:], strict=True))
    names = ["x", "weight", "bias", "residual"]
    for wanted in [*((name,) for name in names), ("weight", "bias"), ("x", "bias")]:
        leaves = {name: value.detach().requires_grad_(name in wanted) for name, value in inputs.items()}
        result = ops.instance_norm(**leaves, activation="leaky_relu", backend="triton")
        cotangent = torch.randn(result.shape, generator=torch.Generator().manual_seed(1))
        cotangent = cotangent.masked_fill(kink(inputs, activation="leaky_relu"), 0)
        with _triton.recorded(run=True) as launches:
            made = torch.autograd.grad(result, [leaves[name] for name in wanted], cotangent)
        for name, have in zip(wanted, made, strict=True):
            assert torch.equal(have, want[name]), (wanted, name)
        ran = [launch.name for launch in launches]
        assert bool(ran) == (wanted != ("residual",))
        if ran and "x" not in wanted:
            assert not launches[-1].constants["NEEDS_X"]
            assert len(ran) == 1 or launches[-1].grid(launches[-1].choices[0])[1] == 1


def test_what_is_not_needed_is_empty(kernels: list[str]) -> None:
    inputs = make((2, 3, 7, 5), residual=False)
    x, weight, bias = inputs["x"], inputs["weight"], inputs["bias"]
    _, mean, rstd = module.forward(x, weight, bias, None, "relu", 0.0, 1e-5)
    full = [(2, 3, 7, 5), (2, 3), (2, 3)]
    for needs in itertools.product([False, True], repeat=3):
        made = module.backward(x, x, weight, bias, mean, rstd, "relu", 0.0, *needs)
        shapes = [tuple(each.shape) for each in made]
        assert shapes == [shape if need else (0,) for need, shape in zip(needs, full, strict=True)]


def test_parameters_of_a_wrong_shape_are_refused() -> None:
    x = torch.randn(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"weight must be float32 \(3,\) or \(2, 3\)"):
        torch.ops.fastgan.triton_instance_norm(x, torch.ones(2), None, None, None, 0.0, 1e-5)


@pytest.mark.parametrize("parameters", [torch.bfloat16, torch.float64])
def test_parameters_of_other_dtypes(parameters: torch.dtype, kernels: list[str]) -> None:
    inputs = make((2, 3, 7, 5))
    given = {name: value.to(parameters) if value.dim() < 4 else value for name, value in inputs.items()}
    if parameters == torch.float64:
        with pytest.raises(ValueError, match="instance_norm cannot use 'triton' here"):
            ops.instance_norm(**given, backend="triton")
        return
    result = ops.instance_norm(**given, backend="triton")
    want = ops.instance_norm(**{name: value.float() for name, value in given.items()}, backend="triton")
    assert torch.equal(result, want)


def test_a_second_differentiation_raises() -> None:
    inputs = {name: value.requires_grad_() for name, value in make((2, 3, 7, 5)).items()}
    result = ops.instance_norm(**inputs, activation="tanh", backend="triton")
    (gradient,) = torch.autograd.grad(result.square().sum(), inputs["x"], create_graph=True)
    with pytest.raises(RuntimeError, match="second_order"):
        torch.autograd.grad(gradient.square().sum(), inputs["x"])
    with ops.second_order(), pytest.raises(ValueError, match=r"no ops\.second_order\(\)"):
        ops.instance_norm(**inputs, backend="triton")


@pytest.mark.parametrize("layout", [plain, last])
def test_opcheck(layout: Layout, kernels: list[str]) -> None:
    inputs = make((2, 3, 7, 5), layout)
    x, weight, bias = inputs["x"], inputs["weight"], inputs["bias"]
    given = tuple(each.requires_grad_() for each in (x, weight, bias, inputs["residual"]))
    torch.library.opcheck(torch.ops.fastgan.triton_instance_norm.default, (*given, "relu", 0.0, 1e-5))
    detached = tuple(each.detach() for each in (x, weight, bias))
    _, mean, rstd = torch.ops.fastgan.triton_instance_norm(*detached, None, "relu", 0.0, 1e-5)
    for needs in ((True, True, True), (False, True, False)):
        torch.library.opcheck(
            torch.ops.fastgan.triton_instance_norm_backward.default,
            (detached[0], *detached, mean, rstd, "relu", 0.0, *needs),
        )


def test_compiles_without_a_break(kernels: list[str]) -> None:
    inputs = make((2, 3, 7, 5))
    want = value_and_gradients(inputs, "triton", activation="tanh")
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda given: ops.instance_norm(**given, activation="tanh", backend="triton"),
        fullgraph=True,
        backend="aot_eager",
    )
    leaves = {name: value.detach().requires_grad_() for name, value in inputs.items()}
    result = compiled(leaves)
    cotangent = torch.randn(result.shape, generator=torch.Generator().manual_seed(1))
    have = [result.detach(), *torch.autograd.grad(result, list(leaves.values()), cotangent)]
    assert all(torch.equal(a, b) for a, b in zip(have, want, strict=True))
