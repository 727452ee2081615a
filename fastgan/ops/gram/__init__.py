"""Gram matrices of features and the style loss on them (Gatys et al. 2016)."""

from torch import Tensor

from fastgan.ops import _checks, _native
from fastgan.ops._registry import Backend, MinNumel, register, select
from fastgan.ops.gram import reference, torch_library

register(
    Backend("gram", "reference", reference.gram),
    _native.backend("gram", torch_library.gram, min_numel=MinNumel(gradient=1 << 13)),
    preference={"cpu": ("native", "reference")},
)
register(
    Backend("gram_style_loss", "reference", reference.gram_style_loss),
    _native.backend("gram_style_loss", torch_library.gram_style_loss),
    preference={"cpu": ("native", "reference")},
)


def gram(x: Tensor, *, backend: str | None = None) -> Tensor:
    """Gram matrices F F^T / (C H W) of features.

    Args:
        x: (N, C, H, W), any strides.

    Returns:
        (N, C, C), symmetric; float32 for half-precision features, and accumulated in float32, under autocast too.

    Raises:
        TypeError: `x` is not floating.
        ValueError: `x` is not four-dimensional or empty.

    Example:
        >>> import torch
        >>> from fastgan import ops
        >>> ops.gram(torch.ones(1, 2, 4, 4))
        tensor([[[0.5000, 0.5000],
                 [0.5000, 0.5000]]])
    """
    _checks.nchw("x", x)
    return select("gram", x, backend=backend)(x)


def gram_style_loss(x: Tensor, target: Tensor, *, reduction: str = "mean", backend: str | None = None) -> Tensor:
    """Mean squared difference between the Gram matrices of features and those of a style (SPEC S8).

    Args:
        x: (N, C, H, W) features.
        target: what `gram` gives for the style: (C, C) for all images or (N, C, C).
        reduction: "mean" for a scalar, "none" for (N,).

    Raises:
        TypeError: a tensor is not floating.
        ValueError: shapes that do not fit, or an unknown `reduction`.

    Example:
        >>> import torch
        >>> from fastgan import ops
        >>> style, result = torch.zeros(1, 2, 4, 4), torch.ones(1, 2, 4, 4)
        >>> ops.gram_style_loss(result, ops.gram(style)[0])
        tensor(0.2500)
    """
    _checks.nchw("x", x)
    _checks.floating("target", target, x)
    n, c = x.shape[:2]
    if target.shape not in ((c, c), (n, c, c)):
        raise ValueError(f"target must be ({c}, {c}) or ({n}, {c}, {c}) for these features, got {tuple(target.shape)}")
    _checks.one_of("reduction", reduction, _checks.REDUCTIONS)
    per_image = select("gram_style_loss", x, target, backend=backend)(x, target)
    return _checks.reduce(per_image, reduction)
