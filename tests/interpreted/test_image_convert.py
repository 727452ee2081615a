"""from_pixels and to_pixels in Triton, bit for bit beside the reference."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fastgan import ops
from fastgan.ops import _triton
from fastgan.ops.image_convert import triton as kernels

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
PICTURES: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "from planes": lambda x: x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
    "sliced": lambda x: torch.nn.functional.pad(x, (0, 0, 2, 3, 1, 2), value=7)[:, 1:-2, 2:-3],
    "strided": lambda x: x.repeat_interleave(2, 2)[:, :, ::2],
    "transposed": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "one picture": lambda x: x[:1].expand(x.shape),
    "one channel": lambda x: x[..., :1].expand(x.shape),
}
#: Of three pictures of at least 5 x 7.
CUTS: dict[str, dict[str, Any]] = {
    "whole": {},
    "mirrored": {"flip": True},
    "some mirrored": {"flip": torch.tensor([True, False, True])},
    "one corner": {"top": 2, "left": 3, "size": (3, 4), "flip": torch.tensor([True]).expand(3)},
    "corners": {"top": torch.tensor([2, 0, 1]), "left": torch.tensor([3, 1, 0], dtype=torch.int32), "size": (3, 4)},
    "a top": {"top": torch.tensor([0, 1]).repeat(3)[::2], "size": 4, "flip": True},
    "a left": {"left": torch.tensor([1]).expand(3), "size": (5, 5), "flip": torch.tensor([False, True, False])},
}


def pictures(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def check_from(x: Tensor, dtype: torch.dtype, channels_last: bool, **cut: Any) -> None:
    options: dict[str, Any] = {"channels_last": channels_last, **cut}
    want = ops.from_pixels(x, backend="reference", **options)
    with _triton.recorded(run=True) as launches:
        have = ops.from_pixels(x, dtype=dtype, backend="triton", **options)
    assert [launch.name for launch in launches] == ["from_pixels_fwd_kernel"]
    assert (have.dtype, have.shape) == (dtype, want.shape)
    assert have.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    if dtype == torch.bfloat16:  # the interpreter cuts the bits off where a GPU rounds
        want = (want.view(torch.int32) & ~0xFFFF).view(torch.float32)
    assert torch.equal(have, want.to(dtype))


def check_to(x: Tensor) -> None:
    want = ops.to_pixels(x, backend="reference")
    with _triton.recorded(run=True) as launches:
        have = ops.to_pixels(x, backend="triton")
    assert [launch.name for launch in launches] == ["to_pixels_fwd_kernel"]
    assert have.is_contiguous()
    assert torch.equal(have, want)


def ties() -> Tensor:
    """Around where a level begins, and what has no level."""
    exact = ((torch.arange(-3, 260, dtype=torch.float64) + 0.5) / 127.5 - 1).float()
    values = exact
    for _ in range(3):
        values = torch.cat([values, values.nextafter(values + 1), values.nextafter(values - 1)]).unique()
    odd = torch.tensor([torch.inf, -torch.inf, torch.nan, 3e38, -3e38, 1e-45, -0.0, 2.0, -2.0])
    return torch.cat([values, odd, torch.linspace(-1.2, 1.2, 6000)])


@pytest.mark.parametrize("channels_last", [True, False], ids=["channels_last", "nchw"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_level(dtype: torch.dtype, channels_last: bool) -> None:
    check_from(torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 16, 16, 3), dtype, channels_last)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("channels_last", [True, False], ids=["channels_last", "nchw"])
def test_cuts_of_every_layout(picture: str, cut: str, channels_last: bool) -> None:
    check_from(PICTURES[picture](pictures(3, 5, 7, 3)), torch.float32, channels_last, **CUTS[cut])


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 17, 1, 3), (1, 13, 257, 1), (3, 9, 86, 4), (1, 3, 33, 6)], ids=str)
@pytest.mark.parametrize("channels_last", [True, False], ids=["channels_last", "nchw"])
def test_sizes(shape: tuple[int, ...], channels_last: bool) -> None:
    check_from(pictures(*shape), torch.bfloat16, channels_last)
    check_from(pictures(*shape), torch.float32, channels_last, flip=True)


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "rows"])
@pytest.mark.parametrize("number", range(4))
def test_every_configuration(whole: bool, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "WHOLE" if whole else "ROWS"
    monkeypatch.setattr(kernels, name, getattr(kernels, name)[number : number + 1])
    for channels_last in (True, False):
        cut: dict[str, Any] = {} if whole else {"flip": torch.tensor([True, False]), "left": 3, "size": (11, 172)}
        check_from(pictures(2, 11, 175, 3), torch.float32, channels_last, **cut)
    x = torch.randn(2, 3, 11, 175, generator=torch.Generator().manual_seed(0))
    check_to(x if whole else x[..., 1:])


def test_a_corner_beyond_the_picture_is_the_nearest_that_fits() -> None:
    """As on a GPU, where nobody looks at the values: the op itself, below the checks."""
    x = pictures(3, 5, 7, 3)
    top, left = torch.tensor([-9, 99, 1]), torch.tensor([2**40, -(2**40), 2])
    want = ops.from_pixels(x, top=torch.tensor([0, 2, 1]), left=torch.tensor([3, 0, 2]), size=(3, 4))
    for name in ("triton_from_pixels", "from_pixels"):
        op = getattr(torch.ops.fastgan, name)
        assert torch.equal(op(x, torch.float32, True, top, left, 3, 4, None, False), want)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_levels_of_ties_and_of_what_is_no_number(dtype: torch.dtype) -> None:
    check_to(ties().to(dtype)[None, None, None])


def test_levels_of_every_half() -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16)
    for dtype in (torch.float16, torch.bfloat16):
        check_to(every.view(dtype).view(1, 1, 256, 256))


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (2, 3, 17, 1), (1, 1, 13, 257), (3, 4, 9, 86), (2, 3, 5, 7), (1, 6, 3, 33)], ids=str
)
def test_levels_of_every_layout(shape: tuple[int, ...], layout: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    check_to(layout(x))
    check_to(layout(x.bfloat16()))
    check_to(layout(x)[:, :, :, :1].expand(shape))


def test_there_and_back_with_nothing_to_convert() -> None:
    x = pictures(2, 16, 16, 3)
    assert torch.equal(ops.to_pixels(ops.from_pixels(x, backend="triton"), backend="triton"), x)
    assert ops.from_pixels(x[:0], backend="triton").shape == (0, 3, 16, 16)


def test_opcheck() -> None:
    x = pictures(3, 5, 7, 3)
    top, flip = torch.tensor([2, 0, 1]), torch.tensor([True, False, True])
    op = torch.ops.fastgan.triton_from_pixels.default
    for channels_last in (True, False):
        torch.library.opcheck(op, (x, torch.bfloat16, channels_last, top, top, 3, 4, flip, False))
        torch.library.opcheck(op, (x, torch.float32, channels_last, None, None, 5, 7, None, True))
    torch.library.opcheck(torch.ops.fastgan.triton_to_pixels.default, (torch.randn(2, 3, 5, 7),))


def test_compiles_without_a_break() -> None:
    x, top = pictures(3, 5, 7, 3), torch.tensor([2, 0, 1])

    def there_and_back(x: Tensor, top: Tensor) -> Tensor:
        cut = ops.from_pixels(x, top=top, left=1, size=3, flip=True, backend="triton")
        return ops.to_pixels(cut, backend="triton")

    compiled = torch.compile(there_and_back, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x, top), there_and_back(x, top))
