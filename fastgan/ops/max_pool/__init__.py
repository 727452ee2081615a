"""2x2 max-pool."""

from torch import Tensor

from fastgan.ops import _checks, _native
from fastgan.ops._registry import Backend, register, select
from fastgan.ops.max_pool import reference, torch_library

register(
    Backend("max_pool", "reference", reference.max_pool),
    _native.backend("max_pool", torch_library.native_max_pool, devices=("cpu",)),
    preference={"cpu": ("native", "reference")},
)


def max_pool(x: Tensor, *, backend: str | None = None) -> Tensor:
    """The largest value of each window of 2x2 pixels, without overlap; a last odd row or column is left out.

    `native` saves no indices of the maxima for the gradient (8 bytes each in torch): it recomputes them.

    Args:
        x: (N, C, H, W), 2 pixels a side or more, any strides.

    Returns:
        (N, C, H // 2, W // 2) in the dtype of `x`; channels_last by `native`.

    Raises:
        TypeError: not a floating tensor.
        ValueError: another shape.

    Example:
        >>> import torch
        >>> from fastgan import ops
        >>> ops.max_pool(torch.arange(16.0).reshape(1, 1, 4, 4))
        tensor([[[[ 5.,  7.],
                  [13., 15.]]]])
    """
    _checks.nchw("x", x)
    if min(x.shape[2:]) < 2:
        raise ValueError(f"x must have at least 2 pixels a side, got {tuple(x.shape)}")
    return select("max_pool", x, backend=backend)(x)
