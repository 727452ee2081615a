"""Pixel conversion: every level there and back, and its formula; cuts; the extension's bytes beside the reference's."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers.bounds import unit
from helpers.machine import needs
from torch import Tensor

from fastgan import ops
from fastgan.ops import _native

ALL_LEVELS = torch.arange(256, dtype=torch.uint8).repeat(3).view(2, 8, 16, 3)

#: Where pictures of 9 x 140 are cut, all in one way or each in its own.
CUTS: dict[str, dict[str, Any]] = {
    "whole": {},
    "mirrored": {"flip": True},
    "some mirrored": {"flip": torch.tensor([True, False, True])},
    "one corner": {"top": 2, "left": 3, "size": (5, 131)},
    "no corner": {"size": 4, "flip": False},
    "corners": {"top": torch.tensor([4, 0, 1]), "left": torch.tensor([9, 1, 0], dtype=torch.int32), "size": (5, 131)},
    "a top": {"top": torch.tensor([0, 1]).repeat(3)[::2], "size": (8, 140), "flip": True},
    "a left": {
        "left": torch.tensor([7]).expand(3),
        "size": (9, 65),
        "flip": torch.tensor([False, True]).repeat(3)[1:4],
    },
}
SOURCES: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "from planes": lambda x: x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
    "sliced": lambda x: torch.nn.functional.pad(x, (0, 0, 2, 3, 1, 2), value=7)[:, 1:-2, 2:-3],
    "strided": lambda x: x.repeat_interleave(2, 2)[:, :, ::2],
    "transposed": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "one picture": lambda x: x[:1].expand(x.shape),
    "one channel": lambda x: x[..., :1].expand(x.shape),
    "fewer channels": lambda x: torch.cat([x, x], 3)[..., : x.shape[3]],
}

native = needs("the extension")


def conversion(dtype: torch.dtype = torch.float32) -> float:
    """Rounding of a quotient up to 2 and its difference from 1, twice; then of the dtype, of numbers up to 1."""
    return unit(dtype) + 6 * unit(torch.float64 if dtype == torch.float64 else torch.float32)


def pictures(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def ties() -> Tensor:
    """Around where a level begins, and what has no level; all of float16 and bfloat16 beside it."""
    exact = ((torch.arange(-3, 260, dtype=torch.float64) + 0.5) / 127.5 - 1).float()
    values = exact
    for _ in range(3):
        values = torch.cat([values, values.nextafter(values + 1), values.nextafter(values - 1)]).unique()
    odd = torch.tensor([torch.inf, -torch.inf, torch.nan, 3e38, -3e38, 1e-45, -0.0, 2.0, -2.0])
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16)
    halves = [every.view(dtype).float() for dtype in (torch.float16, torch.bfloat16)]
    return torch.cat([values, odd, torch.linspace(-1.2, 1.2, 60000), *halves])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels_last", [True, False])
def test_round_trip_is_exact(dtype: torch.dtype, channels_last: bool) -> None:
    x = ops.from_pixels(ALL_LEVELS, dtype=dtype, channels_last=channels_last)
    assert x.shape == (2, 3, 8, 16)
    assert x.dtype == dtype
    assert x.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    assert (x.min().item(), x.max().item()) == (-1, 1)
    expected = (ALL_LEVELS.numpy().astype(np.float64) / 127.5 - 1).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(x.double().numpy(), expected, rtol=0, atol=conversion(dtype))
    back = ops.to_pixels(x)
    assert back.dtype == torch.uint8
    assert back.is_contiguous()
    assert torch.equal(back, ALL_LEVELS)


def test_to_pixels_clamps_and_rounds() -> None:
    values = torch.tensor([-9.0, -1.0, -1 + 0.4 / 127.5, -1 + 0.6 / 127.5, 1.0, float("inf"), float("nan")])
    x = values.view(1, 1, 1, -1).requires_grad_()
    assert ops.to_pixels(x).flatten().tolist() == [0, 0, 0, 1, 255, 255, 0]
    assert x.grad_fn is None


def test_compiles_and_takes_strided_input() -> None:
    levels = ALL_LEVELS[:, ::2]
    compiled = torch.compile(lambda p: ops.to_pixels(ops.from_pixels(p)), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(levels), levels)


@pytest.mark.parametrize("source", ["contiguous", "from planes"])
def test_cuts_are_slices(source: str, backend: str) -> None:
    x = SOURCES[source](pictures(4, 7, 8, 3))
    top, left, flip = [3, 0, 2, 1], [0, 4, 1, 2], [True, False, True, False]
    whole = x.numpy().astype(np.float64) / 127.5 - 1
    want = np.stack([image[t : t + 4, f : f + 3] for image, t, f in zip(whole, top, left, strict=True)])
    want[flip] = want[flip][:, :, ::-1]
    have = ops.from_pixels(
        x, top=torch.tensor(top), left=torch.tensor(left), size=(4, 3), flip=torch.tensor(flip), backend=backend
    )
    np.testing.assert_allclose(have.double().numpy(), want.transpose(0, 3, 1, 2), rtol=0, atol=conversion())

    have = ops.from_pixels(x, top=2, left=1, size=5, flip=True, channels_last=False, backend=backend)
    np.testing.assert_allclose(have.numpy(), whole[:, 2:7, 5:0:-1].transpose(0, 3, 1, 2), rtol=0, atol=conversion())
    assert have.is_contiguous()


@native
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("source", SOURCES)
def test_the_extension_s_numbers_are_the_reference_s(source: str, channels: int, level: str) -> None:
    x = SOURCES[source](pictures(3, 9, 140, channels))
    for cut in CUTS.values():
        for dtype in (torch.float32, torch.bfloat16):
            for channels_last in (True, False):
                options: dict[str, Any] = {"dtype": dtype, "channels_last": channels_last, **cut}
                want = ops.from_pixels(x, backend="reference", **options)
                have = ops.from_pixels(x, backend="native", **options)
                assert have.is_contiguous(
                    memory_format=torch.channels_last if channels_last else torch.contiguous_format
                )
                assert have.dtype == dtype and torch.equal(have, want), options


@native
@pytest.mark.parametrize("shape", [(1, 3, 1, -1), (1, 1, -1, 8), (2, 4, 3, -1), (1, -1, 4, 4)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_extension_s_bytes_are_the_reference_s(
    shape: tuple[int, ...], dtype: torch.dtype, layout: Callable[[Tensor], Tensor], level: str
) -> None:
    values = ties()
    x = layout(values[: values.numel() // 48 * 48].view(shape).to(dtype))
    for each in (x, x[:, :, :, :1].expand(x.shape)):
        have = ops.to_pixels(each, backend="native")
        assert have.is_contiguous()
        assert torch.equal(have, ops.to_pixels(each, backend="reference"))


@native
def test_the_extension_converts_by_default_where_it_can(kernel_calls: list[str]) -> None:
    x = ops.from_pixels(ALL_LEVELS)
    ops.to_pixels(x.requires_grad_())
    assert kernel_calls == ["from_pixels_forward", "to_pixels_forward"]
    for dtype in (torch.float64, torch.float16):
        assert ops.to_pixels(ops.from_pixels(ALL_LEVELS, dtype=dtype)).equal(ALL_LEVELS)
        with pytest.raises(ValueError, match="from_pixels cannot use 'native' here: it takes uint8, float32, bfloat16"):
            ops.from_pixels(ALL_LEVELS, dtype=dtype, backend="native")
    torch.func.grad(lambda x: (x * ops.to_pixels(x)[0, 0, 0, 0]).sum())(x.detach())
    assert len(kernel_calls) == 2


@native
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_large_pictures_in_parts_and_in_memory_that_is_used_again(threads: int) -> None:
    x = pictures(2, 500, 700, 3)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for dtype in (torch.float32, torch.bfloat16):
            made = ops.from_pixels(x, dtype=dtype, backend="native")
            assert torch.equal(made, ops.from_pixels(x, dtype=dtype, backend="reference"))
            assert _native.extension().buffer_bytes()["used"] >= made.numel() * made.element_size()
            assert torch.equal(ops.to_pixels(made, backend="native"), x)
    finally:
        torch.set_num_threads(before)


def test_nothing_to_convert(backend: str) -> None:
    assert ops.from_pixels(ALL_LEVELS[:0], backend=backend).shape == (0, 3, 8, 16)


@native
def test_opcheck() -> None:
    x = pictures(3, 5, 7, 3)
    top, flip = torch.tensor([2, 0, 1]), torch.tensor([True, False, True])
    op = torch.ops.fastgan.from_pixels.default
    for channels_last in (True, False):
        torch.library.opcheck(op, (x, torch.bfloat16, channels_last, top, top, 3, 4, flip, False))
        torch.library.opcheck(op, (x, torch.float32, channels_last, None, None, 5, 7, None, True))
    torch.library.opcheck(torch.ops.fastgan.to_pixels.default, (torch.randn(2, 3, 5, 7),))


def test_cuts_compile(backend: str) -> None:
    """A corner that changes from call to call is traced as a symbol."""

    def cut(x: Tensor, top: Tensor, left: int) -> Tensor:
        return ops.from_pixels(x, top=top, left=left, size=4, flip=True, backend=backend)

    torch.compiler.reset()
    compiled = torch.compile(cut, fullgraph=True, backend="aot_eager")
    for left in (0, 3, 5, 9):
        assert torch.equal(
            compiled(ALL_LEVELS, torch.tensor([1, 4]), left), cut(ALL_LEVELS, torch.tensor([1, 4]), left)
        )


@pytest.mark.parametrize(
    ("cut", "error", "message"),
    [
        ({"top": 1}, ValueError, "top and left say where a cut begins: give its size too"),
        ({"size": 9}, ValueError, "size must be 1 to 8 x 1 to 16 for pictures of 8 x 16, got 9"),
        ({"size": (8, 0)}, ValueError, r"size must be 1 to 8 x 1 to 16 for pictures of 8 x 16, got \(8, 0\)"),
        ({"size": (8, 8, 3)}, TypeError, "size must be a whole number of pixels or two of them"),
        ({"size": 4.0}, TypeError, "size must be a whole number of pixels or two of them"),
        ({"size": 4, "top": 5}, ValueError, "top must be within 0 and 4 for this size, got 5"),
        ({"size": 4, "left": -1}, ValueError, "left must be within 0 and 12 for this size, got -1"),
        ({"size": 4, "left": 1.0}, TypeError, "left must be a whole number of pixels or a tensor of them, got float"),
        ({"size": 4, "top": torch.tensor([0, 5])}, ValueError, "top must be within 0 and 4 for this size, got 5"),
        ({"size": 4, "top": torch.tensor([0, -1])}, ValueError, "top must be within 0 and 4 for this size, got -1"),
        ({"size": 4, "top": torch.tensor([0])}, ValueError, r"top must be \(2,\) for this x, got \(1,\)"),
        ({"size": 4, "top": torch.tensor([0.0, 1.0])}, TypeError, "top must be torch.int64 or torch.int32"),
        ({"size": 4, "left": torch.zeros(2, dtype=torch.int64, device="meta")}, ValueError, "left must be on cpu"),
        ({"flip": torch.tensor([0, 1])}, TypeError, "flip must be torch.bool, got torch.int64"),
        ({"flip": torch.tensor([True])}, ValueError, r"flip must be \(2,\) for this x"),
        ({"flip": 1}, TypeError, "flip must be a bool or a tensor of them, got int"),
    ],
)
def test_bad_cuts(cut: dict[str, Any], error: type[Exception], message: str, backend: str) -> None:
    with pytest.raises(error, match=message):
        ops.from_pixels(ALL_LEVELS, backend=backend, **cut)


@native
def test_direct_calls_are_guarded_and_corners_clamped() -> None:
    op, x = torch.ops.fastgan.from_pixels, ALL_LEVELS
    top, far = torch.tensor([2, 4]), torch.tensor([-(2**40), 2**40])
    want = ops.from_pixels(x, top=torch.tensor([0, 4]), size=(4, 16))
    assert torch.equal(op(x, torch.float32, True, far, None, 4, 16, None, False), want)
    for wrong in (
        (x.float(), torch.float32, True, None, None, 8, 16, None, False),
        (x[0], torch.float32, True, None, None, 8, 16, None, False),
        (x, torch.float16, True, None, None, 8, 16, None, False),
        (x, torch.float32, True, None, None, 4, 16, None, False),
        (x, torch.float32, True, top, None, 9, 16, None, False),
        (x, torch.float32, True, top, None, -1, 16, None, False),
        (x, torch.float32, True, top[:1], None, 4, 16, None, False),
        (x, torch.float32, True, top.short(), None, 4, 16, None, False),
        (x, torch.float32, True, top, None, 4, 16, top, False),
    ):
        with pytest.raises(ValueError, match="must be"):
            op(*wrong)
    for levels in (x, torch.zeros(1, 1, 1, 0), torch.zeros(3, 3, 3)):
        with pytest.raises(ValueError, match="expected non-empty"):
            torch.ops.fastgan.to_pixels(levels)


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match=r"x must be a uint8 tensor, got torch\.float32"):
        ops.from_pixels(torch.zeros(1, 2, 2, 3))
    with pytest.raises(ValueError, match=r"x must be \(N, H, W, C\)"):
        ops.from_pixels(ALL_LEVELS[0])
    with pytest.raises(TypeError, match="dtype must be one of"):
        ops.from_pixels(ALL_LEVELS, dtype=torch.int32)
    with pytest.raises(TypeError, match="floating"):
        ops.to_pixels(ALL_LEVELS)


@pytest.mark.parametrize("shape", [(2, 8, 8, 0), (0, 8, 8, 3), (2, 0, 8, 3), (2, 8, 0, 3)], ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
def test_nothing_gives_nothing(shape: tuple[int, ...], channels_last: bool) -> None:
    n, h, w, c = shape
    x = torch.zeros(shape, dtype=torch.uint8)
    assert ops.from_pixels(x, channels_last=channels_last).shape == (n, c, h, w)
