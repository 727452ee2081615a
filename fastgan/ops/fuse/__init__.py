"""Fusion of content and style features (SPEC S6): additive, convex and AdaIN."""

import numbers

from torch import Tensor

from fastgan.ops import _checks, _native, _triton
from fastgan.ops._registry import Backend, MinNumel, register, select
from fastgan.ops.fuse import reference, torch_library

MODES = ("additive", "convex", "adain")

register(
    Backend("fuse", "reference", reference.fuse),
    _native.backend(
        "fuse", torch_library.native_fuse, devices=("cpu",), min_numel=MinNumel(forward=1 << 14, gradient=1 << 16)
    ),
    _triton.backend("fuse", torch_library.triton_fuse),
    preference={"cpu": ("native", "reference")},
)


def fuse(
    content: Tensor,
    style: Tensor,
    *,
    mode: str = "adain",
    alpha: float | Tensor = 1.0,
    backend: str | None = None,
) -> Tensor:
    """Features of a content and of a style made one.

    - `additive`: content + alpha * style (SPEC S6)
    - `convex`: alpha * content + (1 - alpha) * style, so that alpha = 1 is all content, as in the article (SPEC S6)
    - `adain`: (1 - alpha) * content + alpha * (sigma_s * (content - mu_c) / sigma_c + mu_s), mu the mean and sigma the
      root of the biased variance plus 1e-5 of each (H, W) plane (Huang and Belongie 2017)

    Args:
        content: (N, C, H, W), NCHW or channels_last.
        style: (N, C, H, W); for `adain`, which takes nothing but its moments, (N, C, h, w) of any h and w.
        alpha: any number, or (N,) for one an image.

    Returns:
        Shape, dtype and memory format of `content`; computed in float32 or better and rounded once.

    Raises:
        TypeError: a tensor is not floating; `alpha` is neither a number nor a tensor.
        ValueError: shapes that do not fit, or an unknown `mode`.

    Example:
        >>> import torch
        >>> from fastgan import ops
        >>> content, style = torch.rand(2, 8, 16, 16), torch.rand(2, 8, 4, 4)
        >>> fused = ops.fuse(content, style, mode="adain", alpha=1.0)
        >>> torch.allclose(fused.mean((2, 3)), style.mean((2, 3)), atol=1e-4)
        True
    """
    _checks.nchw("content", content)
    _checks.nchw("style", style, content)
    _checks.one_of("mode", mode, MODES)
    n, c, h, w = content.shape
    if mode == "adain" and style.shape[:2] != (n, c):
        raise ValueError(f"style must be ({n}, {c}, h, w) for this content, got {tuple(style.shape)}")
    if mode != "adain" and style.shape != content.shape:
        raise ValueError(f"style must be ({n}, {c}, {h}, {w}) for {mode} with this content, got {tuple(style.shape)}")
    alpha_tensor = None
    if isinstance(alpha, Tensor):
        _checks.floating("alpha", alpha, content)
        if alpha.shape != (n,):
            raise ValueError(f"alpha must be a number or ({n},) for this content, got shape {tuple(alpha.shape)}")
        alpha_tensor = alpha
    elif isinstance(alpha, bool) or not isinstance(alpha, numbers.Real):
        raise TypeError(f"alpha must be a number or a torch.Tensor, got {type(alpha).__name__}")
    else:
        _checks.finite("alpha", alpha)
    impl = select("fuse", content, style, alpha_tensor, backend=backend, apply_min_numel=mode != "adain")
    return impl(content, style, mode, alpha)
