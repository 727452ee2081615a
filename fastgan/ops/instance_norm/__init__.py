"""Instance normalization with parameters, activation and residual in one call."""

from torch import Tensor

from fastgan.ops import _checks, _native, _triton
from fastgan.ops._registry import Backend, MinNumel, register, select
from fastgan.ops.instance_norm import reference, torch_library

register(
    Backend("instance_norm", "reference", reference.instance_norm),
    _native.backend(
        "instance_norm", torch_library.native_instance_norm, min_numel=MinNumel(forward=1 << 13, gradient=1 << 16)
    ),
    _triton.backend("instance_norm", torch_library.triton_instance_norm),
    preference={"cpu": ("native", "reference")},
)


def instance_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    activation: str | None = None,
    negative_slope: float = 0.2,
    eps: float = 1e-5,
    backend: str | None = None,
) -> Tensor:
    """`activation((x - mean) / sqrt(var + eps) * weight + bias) + residual`, moments over each (H, W) plane.

    Ulyanov et al. 2016; with (N, C) parameters it is the affine part of AdaIN (Huang and Belongie 2017).

    Args:
        x: (N, C, H, W), NCHW or channels_last.
        weight, bias: (C,), or (N, C) for parameters of each image; None for 1 and 0.
        residual: like `x`, added last.
        activation: None, "relu", "leaky_relu" (with `negative_slope`, at least 0) or "tanh".
        eps: added to the biased variance.

    Returns:
        Shape, dtype and memory format of `x`. Moments are float32 or better; a plane of one pixel gives `bias`.

    Raises:
        TypeError: a tensor is not floating.
        ValueError: shapes that do not fit, an unknown `activation`, a negative `negative_slope`, `eps` not above 0.

    Example:
        >>> import torch
        >>> from fastgan import ops
        >>> x = torch.tensor([1.0, 3.0, 1.0, 3.0]).reshape(1, 1, 2, 2)
        >>> ops.instance_norm(x, weight=torch.tensor([2.0]), bias=torch.tensor([1.0])).flatten().round(decimals=3)
        tensor([-1.,  3., -1.,  3.])
    """
    _checks.nchw("x", x)
    n, c = x.shape[:2]
    for name, parameter in (("weight", weight), ("bias", bias)):
        if parameter is not None:
            _checks.floating(name, parameter, x)
            if parameter.shape not in ((c,), (n, c)):
                raise ValueError(f"{name} must be ({c},) or ({n}, {c}) for this x, got {tuple(parameter.shape)}")
    if residual is not None:
        _checks.floating("residual", residual, x)
        if residual.shape != x.shape:
            raise ValueError(f"residual must have the shape of x, {tuple(x.shape)}, got {tuple(residual.shape)}")
    _checks.one_of("activation", activation, _checks.ACTIVATIONS)
    _checks.slope("negative_slope", negative_slope)
    _checks.positive("eps", eps)
    # In channels_last the reference goes image by image.
    impl = select("instance_norm", x, weight, bias, residual, backend=backend, apply_min_numel=x.is_contiguous())
    return impl(x, weight, bias, residual, activation, negative_slope, eps)
