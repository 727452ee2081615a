"""3x3 convolution with what stands around it: enlargement before, bias and activation after."""

import torch
from torch import Tensor

from fastgan.ops import _checks, _native
from fastgan.ops._registry import Backend, register, select
from fastgan.ops.conv3x3 import _op, native, reference

ACTIVATIONS = (None, "relu", "leaky_relu")

register(
    Backend("conv3x3", "reference", reference.conv3x3),
    _native.backend("conv3x3", _op.native_conv3x3, devices=("cpu",)),
    fastest={"cpu": ("native", "reference")},
)


def conv3x3(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    padding: str = "zeros",
    upsample: bool = False,
    activation: str | None = None,
    negative_slope: float = 0.2,
    backend: str | None = None,
) -> Tensor:
    """`activation(conv(upsample(x)) + bias)`: a 3x3 convolution of stride 1 that keeps the size, or doubles it.

    `native` computes it in the transform domain (Winograd's F(2x2, 3x3): Lavin and Gray 2016): 4 products an output and
    channel in place of 9, and 2.25 where pixels are repeated before. In bfloat16 the transformed values are rounded
    once more: the error is some 1.4 times that of a direct convolution. It takes multiples of 16 channels; where a
    call has others, `reference` is the default.

    Args:
        x: (N, C, H, W), any strides. Under autocast it is cast to autocast's dtype.
        weight: (K, C, 3, 3), any floating dtype.
        bias: (K,); None for 0.
        padding: by 1: "zeros", or "reflect" (of the enlarged image, with `upsample`), which needs 2 pixels a side.
        upsample: first repeat every pixel of `x` twice across and down (nearest).
        activation: None, "relu" or "leaky_relu" (with `negative_slope`, at least 0).

    Returns:
        (N, K, H, W), or (N, K, 2H, 2W) with `upsample`, in the dtype of `x`; channels_last by `native`.

    Raises:
        TypeError: a tensor is not floating.
        ValueError: shapes that do not fit, an unknown option, or a value out of range.
    """
    _checks.nchw("x", x)
    _checks.floating("weight", weight)
    if weight.dim() != 4 or weight.shape[1:] != (x.shape[1], 3, 3) or not weight.shape[0]:
        raise ValueError(f"weight must be (K, {x.shape[1]}, 3, 3) for this x, got {tuple(weight.shape)}")
    if bias is not None:
        _checks.floating("bias", bias)
        if bias.shape != weight.shape[:1]:
            raise ValueError(f"bias must be ({weight.shape[0]},) for this weight, got {tuple(bias.shape)}")
    _checks.one_of("padding", padding, native.PADDINGS)
    _checks.one_of("activation", activation, ACTIVATIONS)
    _checks.slope("negative_slope", negative_slope)
    if padding == "reflect" and not upsample and min(x.shape[2:]) < 2:
        raise ValueError(f"padding='reflect' needs at least 2 pixels a side, got {tuple(x.shape)}")
    device = x.device.type
    if torch.is_autocast_enabled(device) and x.dtype != torch.float64:
        x = x.to(torch.get_autocast_dtype(device))
    if backend is None and (weight.shape[0] % native.MULTIPLE or weight.shape[1] % native.MULTIPLE):
        backend = "reference"
    chosen = select("conv3x3", x, weight, bias, backend=backend)
    return chosen(x, weight, bias, padding, upsample, activation, float(negative_slope))
