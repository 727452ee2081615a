"""Arguments of every public op that cannot be used: one TypeError or ValueError that names the argument."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from helpers.machine import needs
from torch import Tensor

from fastgan import ops
from fastgan.ops import _checks


def _rand(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def _pictures() -> Tensor:
    return torch.arange(2 * 8 * 8 * 3, dtype=torch.uint8).view(2, 8, 8, 3)


#: A call of each op with all of its tensors.
CALLS: dict[str, Callable[[], dict[str, Any]]] = {
    "bias_act": lambda: {"x": _rand(2, 16, 8, 8), "bias": _rand(16)},
    "check_finite": lambda: {"grad": _rand(64), "found_inf": torch.zeros(1), "scale": torch.ones(1)},
    "conv2d": lambda: {"x": _rand(2, 16, 8, 8), "weight": _rand(16, 16, 3, 3), "bias": _rand(16)},
    "discriminator_loss": lambda: {"real_logits": _rand(2, 1, 4, 4), "fake_logits": _rand(2, 1, 4, 4)},
    "from_pixels": lambda: {
        "x": _pictures(),
        "top": torch.zeros(2, dtype=torch.int64),
        "left": torch.zeros(2, dtype=torch.int64),
        "flip": torch.zeros(2, dtype=torch.bool),
        "size": 4,
    },
    "fuse": lambda: {"content": _rand(2, 16, 8, 8), "style": _rand(2, 16, 8, 8), "alpha": _rand(2)},
    "generator_loss": lambda: {"fake_logits": _rand(2, 1, 4, 4)},
    "gram": lambda: {"x": _rand(2, 16, 8, 8)},
    "gram_style_loss": lambda: {"x": _rand(2, 16, 8, 8), "target": _rand(16, 16)},
    "instance_norm": lambda: {
        "x": _rand(2, 16, 8, 8),
        "weight": _rand(16),
        "bias": _rand(2, 16),
        "residual": _rand(2, 16, 8, 8),
    },
    "max_pool": lambda: {"x": _rand(2, 16, 8, 8)},
    "optim_step": lambda: {
        "param": _rand(64),
        "grad": _rand(64),
        "state": (torch.zeros(64), torch.zeros(64)),
        "step": torch.zeros(1),
        "lr": torch.full((1,), 1e-3),
        "beta1": 0.9,
        "beta2": 0.99,
        "ema": _rand(64),
        "ema_decay": torch.full((1,), 0.9),
        "scale": torch.ones(1),
        "found_inf": torch.zeros(1),
    },
    "psnr": lambda: {"x": _rand(2, 3, 16, 16), "y": _rand(2, 3, 16, 16)},
    "ssim": lambda: {"x": _rand(2, 3, 16, 16), "y": _rand(2, 3, 16, 16)},
    "to_pixels": lambda: {"x": _rand(2, 3, 16, 16)},
}
#: Arguments that a number may stand for.
NUMBERS = {"alpha", "top", "left", "flip", "step", "lr", "ema_decay"}


def _tensors(op: str) -> Iterator[str]:
    for name, value in CALLS[op]().items():
        if isinstance(value, (Tensor, tuple)):
            yield name


ARGUMENTS = [(op, name) for op in CALLS for name in _tensors(op)]


def call(op: str, replaced: dict[str, Callable[[Tensor], Any]]) -> Any:
    """The op on its inputs, those named copy something else; of a tuple its last."""
    inputs = CALLS[op]()
    for name, make in replaced.items():
        value = inputs[name]
        inputs[name] = (*value[:-1], make(value[-1])) if isinstance(value, tuple) else make(value)
    positional = {"optim_step": 3, "check_finite": 3}.get(op, 0)
    names = list(inputs)
    return getattr(ops, op)(*(inputs[n] for n in names[:positional]), **{n: inputs[n] for n in names[positional:]})


def test_the_table_has_every_op() -> None:
    functions = {name for name in ops.__all__ if name not in ("report", "second_order")}
    assert set(CALLS) == functions
    for op in CALLS:
        taken = {
            name for name, p in inspect.signature(getattr(ops, op)).parameters.items() if "Tensor" in str(p.annotation)
        }
        assert taken == set(_tensors(op)), op
        call(op, {})


def _quantized(x: Tensor) -> Tensor:
    return torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8)


WRONG: dict[str, Callable[[Tensor], Any]] = {
    "complex": lambda x: x.to(torch.complex64),
    "float8": lambda x: x.float().to(torch.float8_e4m3fn),
    "sparse": lambda x: x.to_sparse(),
    "mkldnn": lambda x: x.float().to_mkldnn(),
    "quantized": _quantized,
    "NumPy": lambda x: x.numpy(),
    "list": lambda x: x.tolist(),
    "text": lambda x: "x",
    "int16": lambda x: x.to(torch.int16),
    "ndim": lambda x: x[None, None, None],
    "empty": lambda x: x[:0],
    "elsewhere": lambda x: x.to("meta"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(("op", "name"), ARGUMENTS)
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_used_is_refused_by_name(op: str, name: str, wrong: str) -> None:
    if wrong == "elsewhere" and len(list(_tensors(op))) == 1:
        return  # meta alone is no mixture: see below
    if wrong == "ndim" and op in ("discriminator_loss", "generator_loss"):
        return  # logits have any shape
    if wrong == "empty" and (op, name) == ("from_pixels", "x"):
        name = "top"  # no pictures is a batch, of no corners
    names = "state|exp_avg|exp_avg_sq" if name == "state" else name
    if wrong == "elsewhere" and name == next(iter(_tensors(op))):
        names = "|".join(list(_tensors(op))[1:]) + "|exp_avg"  # the others are not where the first is
    if wrong == "ndim" and name in ("step", "lr", "ema_decay", "scale", "found_inf"):
        return  # one element of any shape
    with pytest.raises((TypeError, ValueError), match=rf"^({names})\b"):
        call(op, {name: WRONG[wrong]})


@pytest.mark.parametrize(("op", "name"), [(op, name) for op, name in ARGUMENTS if name not in NUMBERS])
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8], ids=str)
def test_dtypes_that_are_no_floats(op: str, name: str, dtype: torch.dtype) -> None:
    if op == "from_pixels" and dtype == torch.uint8:
        return
    with pytest.raises(TypeError, match=rf"^({'exp_avg_sq' if name == 'state' else name})\b"):
        call(op, {name: lambda x: x.to(dtype)})


@pytest.mark.parametrize("op", [op for op in CALLS if op not in ("from_pixels", "optim_step", "check_finite")])
def test_shapes_of_tensors_without_memory(op: str) -> None:
    """A meta tensor is a shape: so is its result."""
    want = call(op, {})
    have = call(op, {name: lambda x: x.to("meta") for name in _tensors(op)})
    assert (have.shape, have.dtype, have.device.type) == (want.shape, want.dtype, "meta")


def test_shapes_of_pictures_and_updates_without_memory() -> None:
    def to_meta(x: Tensor) -> Tensor:
        return x.to("meta")

    pictures = call("from_pixels", dict.fromkeys(_tensors("from_pixels"), to_meta))
    assert (pictures.shape, pictures.device.type) == ((2, 3, 4, 4), "meta")
    call("check_finite", dict.fromkeys(_tensors("check_finite"), to_meta))
    state = [torch.zeros(4, device="meta") for _ in range(4)]
    ops.optim_step(state[0], state[1], (state[2], state[3]), step=1, lr=0.1, beta1=0.9, beta2=0.9)


@pytest.mark.parametrize("op", [op for op in CALLS if op not in ("optim_step", "check_finite")])
def test_the_default_dtype_and_device_do_not_matter(op: str) -> None:
    """Values and gradients, also of outputs that come from the extension's own memory."""
    inputs = CALLS[op]()
    if op in ("bias_act", "instance_norm", "max_pool", "to_pixels"):
        inputs = {"x": _rand(1, 16, 200, 200)}
    if op == "gram_style_loss" and "windows" in inspect.signature(ops.gram_style_loss).parameters:
        inputs["windows"] = (2, 2)

    def results() -> list[Tensor]:
        leaves = {
            name: value.detach().requires_grad_(op != "to_pixels")
            if isinstance(value, Tensor) and value.is_floating_point()
            else value
            for name, value in inputs.items()
        }
        result = getattr(ops, op)(**leaves)
        wrt = [value for value in leaves.values() if isinstance(value, Tensor) and value.requires_grad]
        return [result.detach(), *(torch.autograd.grad(result.sum(), wrt) if wrt else ())]

    want = results()
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        have = results()
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    for a, b in zip(have, want, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)


# --- memory that is not there


def _freed(x: Tensor) -> Tensor:
    """As sharded and offloaded training leaves a tensor."""
    copy = x.clone()
    copy.untyped_storage().resize_(0)
    return copy


def _cut(x: Tensor) -> Tensor:
    copy = x.clone()
    copy.untyped_storage().resize_(copy.untyped_storage().nbytes() - 1)
    return copy


@pytest.mark.parametrize("spoil", [_freed, _cut])
@pytest.mark.parametrize(("op", "name"), ARGUMENTS)
def test_a_storage_that_is_freed_or_too_small(op: str, name: str, spoil: Callable[[Tensor], Tensor]) -> None:
    names = "exp_avg_sq" if name == "state" else name
    with pytest.raises(RuntimeError, match=rf"^{names}: sizes .* are out of bounds for storage of size"):
        call(op, {name: spoil})


@needs("the extension")
@pytest.mark.parametrize("op", ["bias_act", "conv2d", "fuse", "gram", "gram_style_loss", "instance_norm", "max_pool"])
def test_a_storage_freed_before_the_gradient_is_taken(op: str) -> None:
    """A tensor that the op keeps for it, or the gradient that comes in."""
    for spoiled in ("kept", "gradient"):
        inputs = {
            name: value.requires_grad_() if isinstance(value, Tensor) else value for name, value in CALLS[op]().items()
        }
        options = {"bias_act": {"activation": "tanh"}}.get(op, {})
        result = getattr(ops, op)(**inputs, **options, backend="native")
        grad = torch.ones(result.shape)
        victim = grad if spoiled == "gradient" else next(iter(inputs.values()))
        if spoiled == "kept" and op == "max_pool":
            victim = result  # the input is kept in another layout
        if spoiled == "kept" and op == "conv2d":
            victim = inputs["weight"]
        victim.untyped_storage().resize_(0)
        with pytest.raises(RuntimeError, match="are out of bounds for storage of size 0"):
            torch.autograd.grad(result, next(iter(inputs.values())), grad)


@pytest.mark.parametrize("name", ["bias_act", "triton_bias_act", "triton_bias_act_backward", "triton_optim_step"])
def test_kernels_that_are_called_without_their_op(name: str) -> None:
    """Those of Triton, too, before it is imported."""
    x, spoiled = _rand(1, 4, 4, 4), _freed(_rand(1, 4, 4, 4))
    flat = [_rand(8) for _ in range(3)]
    update = (*flat[:2], [flat[2], _freed(flat[2])], "adam", 1, None, 0.1, None, 0.9, 0.9, 1e-8, *[None] * 2, 0.0)
    arguments: dict[str, tuple[Any, ...]] = {
        "bias_act": (spoiled, None, None, 0.2, 1.0, None),
        "triton_bias_act": (x, _freed(_rand(4)), None, 0.2, 1.0, None),
        "triton_bias_act_backward": (spoiled, x, None, None, 0.2, 1.0, None, True, False),
        "triton_optim_step": (*update, None, None, None),
    }
    with torch.no_grad(), pytest.raises(RuntimeError, match="are out of bounds for storage of size 0"):
        getattr(torch.ops.fastgan, name)(*arguments[name])


def test_every_stride_is_looked_at() -> None:
    """A view needs the last element that its strides reach, not its number of elements."""
    base = torch.rand(64)
    expanded = base[:8].view(1, 1, 1, 8).expand(1, 3, 16, 8)
    last = base.as_strided((2, 3), (31, 1), 1)
    base.untyped_storage().resize_(35 * 4)
    _checks.memory("x", expanded)
    _checks.memory("x", last)
    _checks.memory("x", base[:0])
    base.untyped_storage().resize_(34 * 4)
    _checks.memory("x", expanded)
    with pytest.raises(RuntimeError, match=r"^x: sizes .* requiring a storage size of 140 are out of bounds"):
        _checks.memory("x", last)


# --- values


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_what_is_not_finite_is_found_in_every_dtype(dtype: torch.dtype, value: float) -> None:
    grad, found_inf = torch.ones(100, dtype=dtype), torch.zeros(1)
    ops.check_finite(grad, found_inf)
    assert found_inf.item() == 0
    grad[97] = value
    ops.check_finite(grad, found_inf)
    assert found_inf.item() == 1


def test_a_negative_view_is_read_with_its_sign() -> None:
    """Memory holds the opposite numbers of such a view: the imaginary part of a conjugate."""
    z = torch.complex(_rand(1, 3, 16, 16), _rand(1, 3, 16, 16))
    x = z.conj().imag
    assert x.is_neg()
    assert torch.equal(ops.bias_act(x, activation="relu"), torch.zeros(x.shape))


@pytest.mark.parametrize("wrong", [None, "1", 1j, [1.0], torch.ones(1)], ids=repr)
@pytest.mark.parametrize(
    ("op", "name"),
    [
        ("ssim", "data_range"),
        ("ssim", "sigma"),
        ("psnr", "data_range"),
        ("instance_norm", "eps"),
        ("bias_act", "gain"),
        ("conv2d", "negative_slope"),
        ("generator_loss", "temperature"),
        ("discriminator_loss", "real_label"),
    ],
)
def test_numbers_that_are_none(op: str, name: str, wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be a number, got"):
        getattr(ops, op)(**CALLS[op](), **{name: wrong})


@pytest.mark.parametrize("wrong", ["other", 3, ["relu"], torch.ones(2)], ids=str)
def test_words_that_are_none(wrong: Any) -> None:
    for op, name in (("bias_act", "activation"), ("ssim", "reduction"), ("fuse", "mode"), ("conv2d", "padding")):
        with pytest.raises(ValueError, match=rf"^{name} must be one of"):
            getattr(ops, op)(**CALLS[op](), **{name: wrong})
    with pytest.raises(ValueError, match=r"^backend: ssim has no backend"):
        ops.ssim(_rand(1, 3, 16, 16), _rand(1, 3, 16, 16), backend=wrong)
