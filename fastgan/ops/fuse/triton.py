"""Fusion in Triton. Additive and convex are in `_triton_blend`.

Bytes that AdaIN must move, with values of e bytes: 2 e per content value and e per style value forward; 3 e and 2 e
backward. That is what moves where a plane of the content is one tile, with one launch each way. Larger planes take four
launches forward and up to four backward: the content is read twice forward, content and gradient twice backward, the
second time from the L2 cache where they fit.
"""

import torch
from torch import Tensor

from fastgan.ops import _triton
from fastgan.ops._triton_tiles import arrange, pointer
from fastgan.ops.fuse import _triton_adain as whole
from fastgan.ops.fuse import _triton_blend as blend
from fastgan.ops.fuse import _triton_pieces as cut
from fastgan.ops.fuse import native

#: A tile holds all pixels of its planes: tiles that are large enough serve, the smallest first.
#: 8192 pixels are not among them: the backward kernel spills with Triton 3.8, by 8 warps and by 16.
WHOLE_NCHW = (
    _triton.config(BLOCK_C=32, BLOCK_P=16, num_warps=2),
    _triton.config(BLOCK_C=16, BLOCK_P=64, num_warps=4),
    _triton.config(BLOCK_C=4, BLOCK_P=256, num_warps=4),
    _triton.config(BLOCK_C=1, BLOCK_P=1024, num_warps=4),
    _triton.config(BLOCK_C=2, BLOCK_P=1024, num_warps=4),
    _triton.config(BLOCK_C=1, BLOCK_P=4096, num_warps=4),
    _triton.config(BLOCK_C=1, BLOCK_P=4096, num_warps=8),
)
WHOLE_CHANNELS_LAST = (
    _triton.config(BLOCK_C=64, BLOCK_P=16, num_warps=4),
    _triton.config(BLOCK_C=32, BLOCK_P=64, num_warps=4),
    _triton.config(BLOCK_C=32, BLOCK_P=128, num_warps=4),
    _triton.config(BLOCK_C=16, BLOCK_P=256, num_warps=8),
    _triton.config(BLOCK_C=16, BLOCK_P=512, num_warps=8),
)
_MOST_WHOLE = 3
#: Larger styles would keep one program reading for too long.
_MOST_STYLE_PIXELS = 1 << 16

PIECES_NCHW = (
    _triton.config(BLOCK_C=1, BLOCK_P=2048, TILES=4, num_warps=4),
    _triton.config(BLOCK_C=1, BLOCK_P=1024, TILES=4, num_warps=4),
    _triton.config(BLOCK_C=1, BLOCK_P=4096, TILES=4, num_warps=8),
)
PIECES_CHANNELS_LAST = (
    _triton.config(BLOCK_C=64, BLOCK_P=32, TILES=8, num_warps=4),
    _triton.config(BLOCK_C=32, BLOCK_P=64, TILES=8, num_warps=4),
    _triton.config(BLOCK_C=128, BLOCK_P=16, TILES=16, num_warps=4),
)
PIECES_MIXED = (
    _triton.config(BLOCK_C=32, BLOCK_P=64, TILES=8, num_warps=4),
    _triton.config(BLOCK_C=32, BLOCK_P=32, TILES=8, num_warps=4),
    _triton.config(BLOCK_C=16, BLOCK_P=128, TILES=8, num_warps=4),
)
MERGE = (
    _triton.config(BLOCK_C=32, num_warps=4),
    _triton.config(BLOCK_C=64, num_warps=4),
    _triton.config(BLOCK_C=16, num_warps=4),
)


def forward(content: Tensor, style: Tensor, alpha: Tensor | None, mode: str, number: float) -> tuple[Tensor, Tensor]:
    """As `native.forward`."""
    moments = native.empty_moments(content, mode)
    if mode != "adain":
        return blend.forward(content, style, alpha, mode, number), moments
    out = native.empty_output(content)
    n, c, h, w = content.shape
    choices = _whole([content, out], [style])
    if not choices:
        _forward_in_pieces(content, style, alpha, number, out, moments)
        return out, moments
    layout, style_layout = arrange(content, out), arrange(style)
    _triton.launch(
        whole.fuse_adain_fwd_kernel,
        lambda config: (n * _triton.cdiv(c, config["BLOCK_C"]),),
        (
            content,
            style,
            pointer(alpha, content),
            out,
            moments,
            *layout.strides,
            *style_layout.strides,
            c,
            h * w,
            w,
            style.shape[2] * style.shape[3],
            style.shape[3],
            n * c,
            number,
        ),
        choices=choices,
        key=_whole_key(content, style),
        HAS_ALPHA=alpha is not None,
        MERGED=layout.merged,
        STYLE_MERGED=style_layout.merged,
    )
    return out, moments


def backward(
    grad: Tensor,
    content: Tensor | None,
    style: Tensor | None,
    alpha: Tensor | None,
    moments: Tensor,
    mode: str,
    number: float,
    style_dtype: torch.dtype,
    needs_content: bool,
    needs_style: bool,
    needs_alpha: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `native.backward`."""
    needs = (needs_content, needs_style, needs_alpha)
    grads = native.empty_gradients(grad, content, style, style_dtype, needs)
    if mode != "adain":
        return blend.backward(grad, content, style, alpha, mode, number, grads, needs)
    assert content is not None
    grad_content, grad_style, grad_alpha = grads
    n, c, h, w = content.shape
    moments = moments.contiguous()
    by_alpha = grad.new_empty((n, c), dtype=torch.float32)
    to_content = grad_content if needs_content else content
    # A placeholder where there is no style; nothing reads it.
    of_style = content if style is None else style
    to_style = grad_style if needs_style else of_style
    choices = _whole([content, grad, to_content], [of_style, to_style] if needs_style else [])
    if choices:
        layout, style_layout = arrange(grad, content, to_content), arrange(of_style, to_style)
        _triton.launch(
            whole.fuse_adain_bwd_kernel,
            lambda config: (n * _triton.cdiv(c, config["BLOCK_C"]),),
            (
                grad,
                content,
                of_style,
                pointer(alpha, grad),
                moments,
                to_content,
                to_style,
                by_alpha,
                *layout.strides,
                *style_layout.strides,
                c,
                h * w,
                w,
                of_style.shape[2] * of_style.shape[3],
                of_style.shape[3],
                n * c,
                number,
            ),
            choices=choices,
            key=_whole_key(content, of_style, *needs),
            HAS_ALPHA=alpha is not None,
            NEEDS_CONTENT=needs_content,
            NEEDS_STYLE=needs_style,
            NEEDS_ALPHA=needs_alpha,
            MERGED=layout.merged,
            STYLE_MERGED=style_layout.merged,
        )
    else:
        _backward_in_pieces(grad, content, of_style, alpha, moments, number, to_content, to_style, by_alpha, needs)
    return grad_content, grad_style, by_alpha.sum(1) if needs_alpha else grad_alpha


def _whole(contents: list[Tensor], styles: list[Tensor]) -> tuple[_triton.Config, ...]:
    """The configurations whose tile holds a content plane; none where layouts differ or planes are too large."""
    memory_format = blend.common_format(*contents)
    style_format = blend.common_format(*styles) if styles else memory_format
    pixels = contents[0].shape[2] * contents[0].shape[3]
    if memory_format == "mixed" or style_format != memory_format:
        # Planes of one pixel have both formats.
        if memory_format == "mixed" or style_format == "mixed" or (pixels > 1 and contents[0].shape[1] > 1):
            return ()
        memory_format = style_format
    last = memory_format == "channels_last"
    table = WHOLE_CHANNELS_LAST if last else WHOLE_NCHW
    fit = tuple(config for config in table if config["BLOCK_P"] >= pixels)
    if styles:
        style_pixels = styles[0].shape[2] * styles[0].shape[3]
        if style_pixels > _MOST_STYLE_PIXELS:
            return ()
        # The tile of a small content would divide a large style into too many pieces.
        min_block = min(style_pixels, 128 if last else 1024)
        fit = tuple(config for config in fit if config["BLOCK_P"] >= min_block) or fit
    return fit[:_MOST_WHOLE]


def _whole_key(content: Tensor, style: Tensor, *others: bool) -> tuple[object, ...]:
    style_pixels = _triton.next_power_of_2(style.shape[2] * style.shape[3])
    return blend.key(blend.common_format(content), content, style.dtype, style_pixels, *others)


def _pieces(kernel: object, operands: list[Tensor], arguments: list[Tensor], sums: int) -> tuple[Tensor, int, int]:
    """Launch a kernel that sums over pieces of planes; returns its output, the number of pieces and their pixels."""
    layout, memory_format = arrange(*operands), blend.common_format(*operands)
    n, c, h, w = operands[0].shape
    choices = {"nchw": PIECES_NCHW, "channels_last": PIECES_CHANNELS_LAST, "mixed": PIECES_MIXED}[memory_format]
    most = max(_triton.cdiv(h * w, config["TILES"] * config["BLOCK_P"]) for config in choices)
    partial = operands[0].new_empty((most, sums, n * c), dtype=torch.float32)
    cut_into = [0, 1]

    def grid(config: _triton.Config) -> tuple[int]:
        cut_into[1] = config["TILES"] * config["BLOCK_P"]
        cut_into[0] = _triton.cdiv(h * w, cut_into[1])
        return (n * _triton.cdiv(c, config["BLOCK_C"]) * cut_into[0],)

    _triton.launch(
        kernel,
        grid,
        (*operands, *arguments, partial, *layout.strides, c, h * w, w, n * c),
        choices=choices,
        key=blend.key(memory_format, operands[0]),
        MERGED=layout.merged,
    )
    return partial, cut_into[0], cut_into[1]


def _elementwise(kernel: object, inputs: list[Tensor], factors: Tensor, out: Tensor) -> None:
    operands = [*inputs, out]
    layout, memory_format = arrange(*operands), blend.common_format(*operands)
    n, c, h, w = out.shape
    _triton.launch(
        kernel,
        lambda config: (n * _triton.cdiv(c, config["BLOCK_C"]) * _triton.cdiv(h * w, config["BLOCK_P"]),),
        (*inputs, factors, out, *layout.strides, c, h * w, w, n * c),
        choices=blend.tiles(memory_format),
        key=blend.key(memory_format, out),
        MERGED=layout.merged,
    )


def _forward_in_pieces(
    content: Tensor, style: Tensor, alpha: Tensor | None, number: float, out: Tensor, moments: Tensor
) -> None:
    n, c, h, w = content.shape
    of_content, pieces, piece = _pieces(cut.fuse_moments_kernel, [content], [], 2)
    of_style, style_pieces, style_piece = _pieces(cut.fuse_moments_kernel, [style], [], 2)
    factors = content.new_empty((3, n * c), dtype=torch.float32)
    style_pixels = style.shape[2] * style.shape[3]
    _triton.launch(
        cut.fuse_merge_fwd_kernel,
        lambda config: (_triton.cdiv(n * c, config["BLOCK_C"]),),
        (
            of_content,
            of_style,
            pointer(alpha, content),
            moments,
            factors,
            c,
            n * c,
            h * w,
            pieces,
            piece,
            style_pixels,
            style_pieces,
            style_piece,
            number,
        ),
        choices=MERGE,
        key=(_triton.next_power_of_2(n * c), _triton.next_power_of_2(h * w)),
        HAS_ALPHA=alpha is not None,
    )
    _elementwise(cut.fuse_apply_kernel, [content], factors, out)


def _backward_in_pieces(
    grad: Tensor,
    content: Tensor,
    style: Tensor,
    alpha: Tensor | None,
    moments: Tensor,
    number: float,
    to_content: Tensor,
    to_style: Tensor,
    by_alpha: Tensor,
    needs: tuple[bool, bool, bool],
) -> None:
    n, c, h, w = content.shape
    partial, pieces, _ = _pieces(cut.fuse_sums_kernel, [content, grad], [moments], 3)
    factors = content.new_empty((7, n * c), dtype=torch.float32)
    _triton.launch(
        cut.fuse_merge_bwd_kernel,
        lambda config: (_triton.cdiv(n * c, config["BLOCK_C"]),),
        (
            partial,
            pointer(alpha, grad),
            moments,
            factors,
            by_alpha,
            c,
            n * c,
            h * w,
            pieces,
            style.shape[2] * style.shape[3],
            number,
        ),
        choices=MERGE,
        key=(_triton.next_power_of_2(n * c), _triton.next_power_of_2(h * w)),
        HAS_ALPHA=alpha is not None,
    )
    if needs[0]:
        _elementwise(cut.fuse_apply_bwd_kernel, [content, grad], factors[:4], to_content)
    if needs[1]:
        _elementwise(cut.fuse_apply_kernel, [style], factors[4:], to_style)
