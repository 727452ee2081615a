"""The epilogue of a convolution: bias, activation, gain and clamp in one call."""

from torch import Tensor

from fastgan.ops import _checks, _native, _triton
from fastgan.ops._registry import Backend, MinNumel, register, select
from fastgan.ops.bias_act import reference, torch_library

register(
    Backend("bias_act", "reference", reference.bias_act),
    _native.backend("bias_act", torch_library.native_bias_act, gradient_order=2, min_numel=MinNumel(gradient=1 << 16)),
    _triton.backend("bias_act", torch_library.triton_bias_act, gradient_order=2),
    preference={"cpu": ("native", "reference")},
)


def bias_act(
    x: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str | None = None,
    negative_slope: float = 0.2,
    gain: float = 1.0,
    clamp: float | None = None,
    backend: str | None = None,
) -> Tensor:
    """`clamp(activation(x + bias) * gain, -clamp, clamp)`, the epilogue of a convolution (Karras et al. 2020).

    Args:
        x: (N, C, H, W), any strides.
        bias: (C,); None for 0.
        activation: None, "relu", "leaky_relu" (with `negative_slope`, at least 0) or "tanh".
        gain: a finite factor.
        clamp: above 0; None for none.

    Returns:
        Shape, dtype and memory format of `x`; computed in float32 or better and rounded once.

    Raises:
        TypeError: a tensor is not floating.
        ValueError: shapes that do not fit, an unknown `activation`, or a value out of range.

    Example:
        >>> import torch
        >>> from fastgan import ops
        >>> x = torch.tensor([-2.0, 0.0, 3.0]).reshape(1, 3, 1, 1)
        >>> ops.bias_act(x, torch.tensor([1.0, 1.0, 1.0]), activation="relu", gain=2.0, clamp=6.0).flatten()
        tensor([0., 2., 6.])
    """
    _checks.nchw("x", x)
    if bias is not None:
        _checks.floating("bias", bias, x)
        if bias.shape != (x.shape[1],):
            raise ValueError(f"bias must be ({x.shape[1]},) for this x, got {tuple(bias.shape)}")
    _checks.one_of("activation", activation, _checks.ACTIVATIONS)
    _checks.slope("negative_slope", negative_slope)
    _checks.finite("gain", gain)
    if clamp is not None:
        _checks.positive("clamp", clamp)
    impl = select("bias_act", x, bias, backend=backend, apply_min_numel=clamp is None)
    return impl(x, bias, activation, float(negative_slope), float(gain), clamp)
