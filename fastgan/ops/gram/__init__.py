"""Gram matrices of features and the style loss on them (Gatys et al. 2016)."""

from typing import Literal, overload

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


@overload
def gram_style_loss(
    x: Tensor,
    target: Tensor,
    *,
    windows: tuple[int, int] | None = None,
    window_weight: float = 1.0,
    reduction: str = "mean",
    return_whole: Literal[False] = False,
    backend: str | None = None,
) -> Tensor: ...
@overload
def gram_style_loss(
    x: Tensor,
    target: Tensor,
    *,
    windows: tuple[int, int] | None = None,
    window_weight: float = 1.0,
    reduction: str = "mean",
    return_whole: Literal[True],
    backend: str | None = None,
) -> tuple[Tensor, Tensor]: ...
def gram_style_loss(
    x: Tensor,
    target: Tensor,
    *,
    windows: tuple[int, int] | None = None,
    window_weight: float = 1.0,
    reduction: str = "mean",
    return_whole: bool = False,
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Mean squared difference between the Gram matrices of features and those of a style (SPEC S8).

    With `windows` the plane is cut into so many rows and columns, at floor(i H / rows) and floor(j W / cols), and the
    loss is `1 - window_weight` times that of the whole plane plus `window_weight` times the mean of those of the
    windows. The whole plane's Gram matrix is the mean of its windows' by area, so that both cost little more than one.

    Args:
        x: (N, C, H, W) features.
        target: what `gram` gives for the style: (C, C) for all images or (N, C, C).
        windows: (rows, columns), at most (H, W); None for the whole plane alone.
        window_weight: 0 to 1, the windows' share of the loss; without `windows` it has no effect.
        reduction: "mean" for a scalar, "none" for (N,).
        return_whole: whether to return the whole plane's loss too, as a measure: it carries no gradient.

    Returns:
        The loss, or with `return_whole` the loss and the whole plane's.

    Raises:
        TypeError: a tensor is not floating.
        ValueError: shapes that do not fit, windows that the plane does not have, a `window_weight` outside of 0 to 1,
            or an unknown `reduction`.

    Example:
        >>> import torch
        >>> from fastgan import ops
        >>> style, result = torch.zeros(1, 2, 4, 4), torch.ones(1, 2, 4, 4)
        >>> ops.gram_style_loss(result, ops.gram(style)[0])
        tensor(0.2500)
        >>> result[:, :, :2] = 0  # in the upper half nothing is off, in the lower one as much as before
        >>> ops.gram_style_loss(result, ops.gram(style)[0], windows=(2, 1), return_whole=True)
        (tensor(0.1250), tensor(0.0625))
    """
    _checks.nchw("x", x)
    _checks.floating("target", target)
    n, c = x.shape[:2]
    if target.shape not in ((c, c), (n, c, c)):
        raise ValueError(f"target must be ({c}, {c}) or ({n}, {c}, {c}) for these features, got {tuple(target.shape)}")
    rows, cols = _check_windows(windows, x)
    _checks.fraction("window_weight", window_weight)
    _checks.one_of("reduction", reduction, _checks.REDUCTIONS)
    call = select("gram_style_loss", x, target, backend=backend)
    per_image, whole = call(x, target, rows, cols, float(window_weight))
    loss = _checks.reduce(per_image, reduction)
    return (loss, _checks.reduce(whole.detach(), reduction)) if return_whole else loss


def _check_windows(windows: tuple[int, int] | None, x: Tensor) -> tuple[int, int]:
    if windows is None:
        return 1, 1
    if not isinstance(windows, (tuple, list)) or len(windows) != 2 or not all(isinstance(i, int) for i in windows):
        raise TypeError(f"windows must be None or two whole numbers, (rows, columns), got {windows!r}")
    rows, cols = windows
    height, width = x.shape[2:]
    if not (1 <= rows <= height and 1 <= cols <= width):
        raise ValueError(f"windows must be from (1, 1) to ({height}, {width}) for these features, got {windows!r}")
    return rows, cols
