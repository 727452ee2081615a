"""Convolution fused with upsampling before it, and bias and activation after it."""

import torch
from torch import Tensor

from fastgan.ops import _checks, _native
from fastgan.ops._registry import Backend, register, select
from fastgan.ops.conv2d import native, reference, torch_library
from fastgan.precision import autocast_dtype

register(
    Backend("conv2d", "reference", reference.conv2d),
    _native.backend("conv2d", torch_library.native_conv2d, devices=("cpu",)),
    preference={"cpu": ("native", "reference")},
)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: str = "zeros",
    upsample: bool = False,
    activation: str | None = None,
    negative_slope: float = 0.2,
    backend: str | None = None,
) -> Tensor:
    """`activation(conv(upsample(x)) + bias)`: a convolution padded by (k - 1) // 2 on every side.

    `native` has 3x3 of stride 1, with or without `upsample`, and zero-padded 4x4 of stride 1 and 2, for multiples of
    16 channels, in the transform domain (Winograd 1980; Lavin and Gray 2016): for an output and an input channel 4
    products in place of 9, 2.25 of 9 behind `upsample`, 9 of 16. In bfloat16 the transformed values are rounded once
    more: the error is up to twice that of a direct convolution, 2.4 times in a weight's gradient. It also has odd
    kernels of stride 1 from 3 channels and, without activation, to 3, computed directly. Other convolutions use
    `reference`.

    Args:
        x: (N, C, H, W), any strides. Under autocast it is cast to autocast's dtype.
        weight: (K, C, k, k), any floating dtype.
        bias: (K,); None for 0.
        stride: 1 or more.
        padding: "zeros", or "reflect" (of the enlarged image, with `upsample`).
        upsample: first repeat every pixel of `x` twice across and down (nearest).
        activation: None, "relu" or "leaky_relu" (with `negative_slope`, at least 0).

    Returns:
        (N, K, H', W') in the dtype of `x`; channels_last by `native`.

    Raises:
        TypeError: a tensor is not floating.
        ValueError: shapes that do not fit, an unknown option, or a value out of range.

    Example:
        >>> import torch
        >>> from fastgan import ops
        >>> x, weight = torch.ones(1, 3, 8, 8), torch.ones(16, 3, 3, 3)
        >>> ops.conv2d(x, weight, padding="reflect", upsample=True).shape
        torch.Size([1, 16, 16, 16])
    """
    _checks.nchw("x", x)
    _checks.floating("weight", weight, x)
    if weight.dim() != 4 or weight.shape[1] != x.shape[1] or weight.shape[2] != weight.shape[3] or not weight.numel():
        raise ValueError(f"weight must be (K, {x.shape[1]}, k, k) for this x, got {tuple(weight.shape)}")
    if bias is not None:
        _checks.floating("bias", bias, x)
        if bias.shape != weight.shape[:1]:
            raise ValueError(f"bias must be ({weight.shape[0]},) for this weight, got {tuple(bias.shape)}")
    if not isinstance(stride, int) or stride < 1:
        raise ValueError(f"stride must be a whole number of at least 1, got {stride!r}")
    _checks.one_of("padding", padding, native.PADDINGS)
    _checks.one_of("activation", activation, native.ACTIVATIONS)
    _checks.slope("negative_slope", negative_slope)
    kernel, scale = weight.shape[2], 2 if upsample else 1
    pad, side = (kernel - 1) // 2, scale * min(x.shape[2:])
    if side + 2 * pad < kernel or (padding == "reflect" and side <= pad):
        raise ValueError(f"x is too small for a {kernel}x{kernel} convolution, padding={padding!r}: {tuple(x.shape)}")
    device = x.device.type
    cast_to = autocast_dtype(x.device)
    if cast_to is not None and x.dtype != torch.float64:
        x = x.to(cast_to)
    unsupported = None
    if device == "cpu" and x.dtype in _native.DTYPES["cpu"]:
        unsupported = native.unsupported_reason(x.dtype, tuple(weight.shape), stride, padding, upsample, activation)
    impl = select("conv2d", x, weight, bias, backend=backend, unsupported={"native": unsupported})
    return impl(x, weight, bias, stride, padding, upsample, activation, float(negative_slope))
