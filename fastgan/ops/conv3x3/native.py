"""3x3 convolutions by the extension: in the transform domain, on CPU."""

import torch
from torch import Tensor

from fastgan.ops import _native
from fastgan.ops.conv3x3.reference import upsample_nearest

#: The order is that of `Padding` in csrc/kernels/conv3x3.h.
PADDINGS = ("zeros", "reflect")
#: A vector of the widest instruction set.
MULTIPLE = 16


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: str,
    upsample: bool,
    activation: str | None,
    negative_slope: float,
) -> Tensor:
    k, c = _check(x, weight)
    _native.check_numbers("bias", bias, x, (k,))
    n, _, h, w = x.shape
    scale = 2 if upsample else 1
    out = _native.room(x, (n, k, scale * h, scale * w), x.dtype, torch.channels_last)
    options = _options(padding, upsample)
    _native.call(
        "conv3x3_forward",
        x.device,
        *_dense(x),
        (n, c, h, w),
        _native.floats(weight),
        k,
        *options,
        _native.floats(bias),
        _native.ACTIVATIONS[activation],
        negative_slope,
        out.data_ptr(),
    )
    return out


def backward(
    grad: Tensor,
    x: Tensor | None,
    out: Tensor | None,
    weight: Tensor,
    size: list[int],
    padding: str,
    upsample: bool,
    activation: str | None,
    negative_slope: float,
    needs_x: bool,
    needs_weight: bool,
    needs_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias; empty where not needed. `out` where there is an activation; `x` for the weight."""
    n, h, w = size
    k, c = _check(grad, weight, grad=True)
    scale = 2 if upsample else 1
    _native.check_numbers("weight", weight, grad, (k, c, 3, 3))
    if grad.shape != (n, k, scale * h, scale * w) or any(
        other is not None and (other.shape != shape or other.dtype != grad.dtype or other.device != grad.device)
        for other, shape in ((x, (n, c, h, w)), (out, grad.shape))
    ):
        raise ValueError("expected grad, x and out of one convolution, of one dtype and device")
    grad = grad.contiguous(memory_format=torch.channels_last)
    out = None if activation is None or out is None else out.contiguous(memory_format=torch.channels_last)
    slope = negative_slope if activation == "leaky_relu" else 0.0
    options = *_options(padding, upsample), _native.ACTIVATIONS[activation], slope
    pulled = 0 if out is None else out.data_ptr()
    grad_x, grad_weight, grad_bias = grad.new_empty(0), weight.new_empty(0), weight.new_empty(0)
    if needs_x and padding == "reflect" and not upsample and (h % 2 or w % 2):
        grad_x = _odd_reflected(_pulled_back(grad, out, slope), weight, h, w)
    elif needs_x:
        grad_x = _native.room(grad, (n, c, h, w), grad.dtype, torch.channels_last)
        pointer, dtype = _dense(grad)
        shape = (n, c, h, w)
        _native.call(
            "conv3x3_backward_input",
            grad.device,
            pointer,
            pulled,
            dtype,
            shape,
            _native.floats(weight),
            k,
            *options,
            grad_x.data_ptr(),
        )
    if needs_weight:
        assert x is not None
        x = x.contiguous(memory_format=torch.channels_last)
        grad_weight = torch.empty_like(weight)
        pointer, dtype = _dense(x)
        _native.call(
            "conv3x3_backward_weight",
            grad.device,
            pointer,
            grad.data_ptr(),
            pulled,
            dtype,
            (n, c, h, w),
            k,
            *options,
            grad_weight.data_ptr(),
        )
    if needs_bias:
        grad_bias = _pulled_back(grad, out, slope).sum((0, 2, 3), dtype=torch.float32)
    return grad_x, grad_weight, grad_bias


def _check(x: Tensor, weight: Tensor, *, grad: bool = False) -> tuple[int, int]:
    """Outputs and inputs. Guards the kernels' memory against direct calls of the registered op."""
    _native.check(x)
    k, c = weight.shape[:2]
    if (
        x.device.type != "cpu"
        or weight.shape[2:] != (3, 3)
        or weight.dtype != torch.float32
        or not weight.is_contiguous()
        or x.shape[1] != (k if grad else c)
    ):
        raise ValueError(
            f"expected (N, {c}, H, W) on cpu and a contiguous float32 weight (outputs, inputs, 3, 3), "
            f"got {tuple(x.shape)} on {x.device} and {weight.dtype} {tuple(weight.shape)}"
        )
    if c % MULTIPLE or k % MULTIPLE:
        raise ValueError(f"native takes multiples of {MULTIPLE} channels, got {c} inputs and {k} outputs")
    return k, c


def _dense(x: Tensor) -> tuple[int, int]:
    if not x.is_contiguous(memory_format=torch.channels_last):
        raise ValueError(f"expected a dense channels_last tensor, got strides {x.stride()}")
    return x.data_ptr(), _native.code(x.dtype)


def _options(padding: str, upsample: bool) -> tuple[int, bool]:
    return PADDINGS.index(padding), upsample


def _pulled_back(grad: Tensor, out: Tensor | None, negative_slope: float) -> Tensor:
    return grad if out is None else torch.where(out <= 0, grad * negative_slope, grad)


def _odd_reflected(grad: Tensor, weight: Tensor, height: int, width: int) -> Tensor:
    # The last tile of an odd side holds one output, whose reflection falls on a neighbour tile's.
    n, c = grad.shape[0], weight.shape[1]
    padded = grad.new_empty(1).expand(n, c, height + 2, width + 2)  # their shapes are all that is read of them
    grad_padded, _, _ = torch.ops.aten.convolution_backward(
        grad, padded, weight.to(grad.dtype), None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True, False, False]
    )
    x = grad.new_empty(1).expand(n, c, height, width)
    return torch.ops.aten.reflection_pad2d_backward(grad_padded, x, [1, 1, 1, 1])
