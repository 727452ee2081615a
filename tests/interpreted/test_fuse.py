"""The fusion kernels in the interpreter, beside the reference in float64."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.bounds import STORED, assert_close, rounding
from torch import Tensor

from fastgan import ops
from fastgan.ops import _triton
from fastgan.ops.fuse import _triton_blend as blend
from fastgan.ops.fuse import triton as kernels

#: Roundings in a row: two means, two variances, their roots, a quotient, a product, a sum.
STEPS = 9
MODES = ["additive", "convex", "adain"]
ALPHA = "images"


def last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def inputs(
    mode: str,
    shape: tuple[int, ...],
    style: tuple[int, int] | None = None,
    dtypes: tuple[torch.dtype, torch.dtype] = (torch.float32, torch.float32),
    mean: float = 0.5,
) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(3)
    planes = (*shape[:2], *(style or shape[2:])) if mode == "adain" else shape
    content = (torch.randn(shape, generator=rng) * 1.5 + mean).to(dtypes[0])
    styled = (torch.randn(planes, generator=rng) - mean).to(dtypes[1])
    return content, styled, torch.randn(shape[0], generator=rng)


def run(mode: str, content: Tensor, style: Tensor, alpha: Any, backend: str, grad: Tensor) -> list[Tensor]:
    leaves = [each.detach().requires_grad_() for each in (content, style, alpha) if isinstance(each, Tensor)]
    given = leaves[2] if len(leaves) == 3 else alpha
    out = ops.fuse(*leaves[:2], mode=mode, alpha=given, backend=backend)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad.to(out.dtype))]


def compare(mode: str, content: Tensor, style: Tensor, alpha: Any, grad: Tensor | None = None) -> list[str]:
    """The names of the kernels that ran."""
    if grad is None:
        grad = torch.randn(content.shape, generator=torch.Generator().manual_seed(4))
    grad = grad.to(content.dtype)
    wide = alpha.double() if isinstance(alpha, Tensor) else alpha
    exact = run(mode, content.double(), style.double(), wide, "reference", grad.double())
    same = run(mode, content, style, alpha, "reference", grad)
    with _triton.recorded(run=True) as launches:
        have = run(mode, content, style, alpha, "triton", grad)
    plane = max(each[0, 0].numel() for each in (content, style))
    mean = content.double().mean().abs().item() if mode == "adain" else 0.0
    for name, want, plain, made in zip(["out", "content", "style", "alpha"], exact, same, have, strict=False):
        assert made.dtype == plain.dtype and made.shape == plain.shape, name
        largest = want.abs().max().item()
        terms = content.shape[1] * plane if name == "alpha" else plane if mode == "adain" else 1
        floor = (STORED[made.dtype] + rounding(terms, STEPS)) * largest
        # A mean is known to its rounding: values behind it are that far off, and gradients by that share.
        floor += rounding(1, STEPS) * mean * (1 if name == "out" else largest)
        allowed = 2 * (plain.double() - want).abs().max().item() + floor
        error = (made.double() - want).abs().max().item()
        assert error <= allowed, f"{name}: error {error:.3g}, allowed {allowed:.3g}"
    assert have[0].stride() == same[0].stride()
    return [launch.name for launch in launches]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("alpha", [ALPHA, 0.7, 1])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 1, 1), (3, 5, 7, 3), (2, 33, 4, 4), (1, 2, 32, 33)], ids=str)
def test_equals_the_reference(mode: str, alpha: Any, shape: tuple[int, ...]) -> None:
    content, style, images = inputs(mode, shape)
    alpha = images if alpha == ALPHA else alpha
    for place in (torch.clone, last):
        ran = compare(mode, place(content), place(style), alpha, place(torch.randn(shape)))
        if mode != "adain":
            assert ran == ["fuse_blend_fwd_kernel", "fuse_blend_bwd_kernel"]
        elif place is torch.clone or shape[2] * shape[3] <= 512:
            assert ran == ["fuse_adain_fwd_kernel", "fuse_adain_bwd_kernel"]


@pytest.mark.parametrize("mode", MODES)
def test_layouts(mode: str, layout: Callable[[Tensor], Tensor]) -> None:
    content, style, alpha = inputs(mode, (2, 6, 5, 7), (6, 4))
    compare(mode, layout(content), layout(style), alpha)
    compare(mode, layout(content), style, alpha)
    compare(mode, content, layout(style), alpha)
    compare(mode, content, style, alpha, layout(torch.randn(content.shape)))
    compare(mode, last(content), style, alpha)


@pytest.mark.parametrize("mode", MODES)
def test_expanded(mode: str) -> None:
    content, style, alpha = inputs(mode, (3, 4, 6, 5))
    compare(mode, content[:1].expand(content.shape), style[:, :1].expand(style.shape), alpha)
    compare(mode, content[:, :, :1].expand(content.shape), style[..., :1].expand(style.shape), alpha)
    compare(mode, content, style, alpha, torch.tensor(0.5).expand(content.shape))
    compare(mode, last(content), last(style), alpha, torch.randn(3, 4, 1, 1).expand(content.shape))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("style_dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtypes(mode: str, dtype: torch.dtype, style_dtype: torch.dtype) -> None:
    content, style, alpha = inputs(mode, (2, 5, 6, 7), (9, 4), (dtype, style_dtype))
    compare(mode, content, style, alpha)
    compare(mode, last(content), style, alpha.bfloat16())


@pytest.mark.parametrize(
    ("shape", "style"), [((1, 2, 91, 93), (7, 5)), ((1, 2, 9, 5), (90, 100)), ((1, 1, 130, 67), (8, 8))], ids=str
)
def test_planes_larger_than_a_tile(shape: tuple[int, ...], style: tuple[int, int]) -> None:
    content, styled, alpha = inputs("adain", shape, style)
    ran = compare("adain", content, styled, alpha)
    large = shape[2] * shape[3] > 4096
    assert ("fuse_sums_kernel" in ran) == ("fuse_merge_fwd_kernel" in ran) == large


def test_channels_last_planes_larger_than_a_tile() -> None:
    content, style, alpha = inputs("adain", (1, 3, 25, 26), (24, 30))
    assert "fuse_sums_kernel" in compare("adain", last(content), last(style), alpha)
    assert "fuse_sums_kernel" in compare("adain", last(content), last(style), 0.3)


@pytest.mark.parametrize("place", [torch.clone, last], ids=["nchw", "channels_last"])
def test_large_means_keep_the_variance(place: Callable[[Tensor], Tensor]) -> None:
    content, style, alpha = inputs("adain", (2, 3, 9, 8), (40, 30), mean=1000.0)
    compare("adain", place(content), place(style), alpha)
    compare("adain", place(content), last(style) if place is torch.clone else style.contiguous(), alpha)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("table", ["NCHW", "CHANNELS_LAST", "MIXED"])
def test_every_tile(mode: str, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content, style, alpha = inputs(mode, (2, 9, 11, 13), (12, 10))
    first, second = {"NCHW": (content, style), "CHANNELS_LAST": (last(content), last(style))}.get(
        table, (last(content), style)
    )
    monkeypatch.setattr(kernels, "WHOLE_NCHW", ())
    monkeypatch.setattr(kernels, "WHOLE_CHANNELS_LAST", ())
    for module, name in ((blend, table), (kernels, f"PIECES_{table}"), (kernels, "MERGE")):
        if module is kernels and mode != "adain":
            continue
        for each in getattr(module, name):
            with monkeypatch.context() as patched:
                patched.setattr(module, name, (each,))
                compare(mode, first, second, alpha)


@pytest.mark.parametrize("table", ["WHOLE_NCHW", "WHOLE_CHANNELS_LAST"])
def test_every_tile_of_whole_planes(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in getattr(kernels, table):
        height = max(1, each["BLOCK_P"] // 8)
        content, style, alpha = inputs("adain", (1, min(each["BLOCK_C"], 3), height, 7), (3, 7))
        if table == "WHOLE_CHANNELS_LAST":
            content, style = last(content), last(style)
        with monkeypatch.context() as patched:
            patched.setattr(kernels, table, (each,))
            grad = torch.empty_like(content).normal_()
            ran = compare("adain", content, style, alpha, grad)
        assert ran == ["fuse_adain_fwd_kernel", "fuse_adain_bwd_kernel"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "pieces"])
def test_every_subset_of_gradients(mode: str, cut: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if cut:
        monkeypatch.setattr(kernels, "WHOLE_NCHW", ())
    given = inputs(mode, (2, 3, 5, 4), (6, 3))
    grad = torch.randn(given[0].shape)
    want = run(mode, *given, "triton", grad)[1:]
    for expected in range(3):
        leaves = [each.clone().requires_grad_(at == expected) for at, each in enumerate(given)]
        out = ops.fuse(leaves[0], leaves[1], mode=mode, alpha=leaves[2], backend="triton")
        (have,) = torch.autograd.grad(out, leaves[expected], grad)
        assert_close(have, want[expected], terms=3 * 5 * 4, steps=2 * STEPS)


def test_not_a_number_stays_in_its_image() -> None:
    for mode in MODES:
        content, style, alpha = inputs(mode, (2, 3, 4, 4))
        content[0, 1, 2, 2] = torch.nan
        out = ops.fuse(content, style, mode=mode, alpha=alpha, backend="triton")
        assert out[0, 1, 2, 2].isnan() and out[1].isfinite().all() and out[0, 0].isfinite().all()
        assert mode != "adain" or out[0, 1].isnan().all()


@pytest.mark.parametrize("mode", MODES)
def test_the_operator_is_well_made(mode: str) -> None:
    content, style, alpha = inputs(mode, (2, 3, 4, 5))
    out, moments = torch.ops.fastgan.triton_fuse(content, style, alpha, mode, 0.0)
    leaves = [each.requires_grad_() for each in (content, style, alpha)]
    torch.library.opcheck(torch.ops.fastgan.triton_fuse.default, (*leaves, mode, 0.0))
    plain = [each.detach() for each in leaves]
    backward = torch.ops.fastgan.triton_fuse_backward.default
    torch.library.opcheck(backward, (out, *plain, moments, mode, 0.0, torch.float32, True, True, True))
    gradient = torch.autograd.grad(
        ops.fuse(*leaves[:2], mode=mode, alpha=alpha, backend="triton").square().sum(), style, create_graph=True
    )
    with pytest.raises(RuntimeError, match="second_order"):
        torch.autograd.grad(gradient[0].square().sum(), content)
