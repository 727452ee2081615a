"""Convolutions by the extension: in the transform domain, on CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.ops import _native

#: In the order of `Padding` in csrc/conv2d/conv2d.h.
PADDINGS = ("zeros", "reflect")
ACTIVATIONS = (None, "relu", "leaky_relu")
#: Channels are multiples of a vector of the widest instruction set.
_MULTIPLE = 16
#: Channels of an image: convolutions from and to it have kernels of their own, of any odd size.
_FEW = 3
#: Values of a 4x4 weight from which on torch's gradient of it is faster: the sums of 36 points no longer fit a cache.
#: (4, 256, 32, 32) to 512, one thread: 92 and 152 ms.
_LARGE_WEIGHT = 1 << 20


def unsupported_reason(
    dtype: torch.dtype, weight: tuple[int, ...], stride: int, padding: str, upsample: bool, activation: str | None
) -> str | None:
    """Reason why no kernel serves a convolution, or None when one does."""
    k, c, kernel, _ = weight
    few = (c % _MULTIPLE == 0 and k == _FEW) or (c == _FEW and k % _MULTIPLE == 0)
    if not few and (c % _MULTIPLE or k % _MULTIPLE):
        return f"takes multiples of {_MULTIPLE} channels, of which one side may be {_FEW}, not {c} to {k}"
    if few:
        known = kernel % 2 == 1 and stride == 1 and not upsample and (activation is None or c == _FEW)
    else:
        known = (kernel == 3 and stride == 1) or (
            kernel == 4 and stride in (1, 2) and padding == "zeros" and not upsample
        )
    if not known or activation not in ACTIVATIONS:
        options = f"stride={stride}, padding={padding!r}, upsample={upsample}, activation={activation!r}"
        return f"has no {kernel}x{kernel} from {c} to {k} channels with {options}"
    if not _has_kernels(dtype):
        return f"has no {str(dtype).removeprefix('torch.')} convolutions for this processor"
    return None


def _has_kernels(dtype: torch.dtype) -> bool:
    return _native.unavailable_reason() is None and bool(_native.extension().conv2d_serves(_native.dtype_code(dtype)))


# A compiled function takes the answer as it is; see `_native.unavailable_reason`.
_has_kernels._dynamo_marked_constant = True  # type: ignore[attr-defined]


def output_shape(x: tuple[int, ...], weight: tuple[int, ...], stride: int, upsample: bool) -> tuple[int, ...]:
    """(N, K, H', W')."""
    n, _, h, w = x
    scale, lost = (2, 0) if upsample else (1, weight[2] - 1 - 2 * ((weight[2] - 1) // 2))
    return n, weight[0], (scale * h - lost - 1) // stride + 1, (scale * w - lost - 1) // stride + 1


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: str,
    upsample: bool,
    activation: str | None,
    negative_slope: float,
) -> Tensor:
    _check(x, weight, stride, padding, upsample, activation)
    _native.check_numbers("bias", bias, x, (weight.shape[0],))
    _check_input(x.shape, weight)
    shape = output_shape(x.shape, weight.shape, stride, upsample)
    out = _native.empty(x, shape, x.dtype, torch.channels_last)
    _native.call(
        "conv2d_forward",
        x.device,
        *_dense(x),
        tuple(x.shape),
        _native.float32_ptr(weight),
        weight.shape[0],
        *_options(weight, stride, padding, upsample),
        _native.float32_ptr(bias),
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
    stride: int,
    padding: str,
    upsample: bool,
    activation: str | None,
    negative_slope: float,
    needs_x: bool,
    needs_weight: bool,
    needs_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x (of N, H, W in `size`), weight and bias; empty where not needed.

    `out`, the forward's, is given where there is an activation, and `x` where the weight's gradient is needed.
    """
    n, h, w = size
    shape = n, weight.shape[1], h, w
    _check(grad, weight, stride, padding, upsample, activation)
    _check_input(shape, weight)
    expected = {"grad": (grad, output_shape(shape, weight.shape, stride, upsample)), "x": (x, shape)}
    expected["out"] = out, expected["grad"][1]
    for name, (tensor, expected_shape) in expected.items():
        if tensor is None and ((name == "out" and activation is not None) or (name == "x" and needs_weight)):
            raise ValueError(f"{name} is needed")
        if tensor is not None and (
            tuple(tensor.shape) != expected_shape or tensor.dtype != grad.dtype or tensor.is_cuda
        ):
            raise ValueError(
                f"{name} must be {grad.dtype} {expected_shape} on cpu, got {tensor.dtype} {tuple(tensor.shape)}"
            )
    grad = grad.contiguous(memory_format=torch.channels_last)
    out = None if activation is None or out is None else out.contiguous(memory_format=torch.channels_last)
    slope = negative_slope if activation == "leaky_relu" else 0.0
    options = *_options(weight, stride, padding, upsample), _native.ACTIVATIONS[activation], slope
    grad_ptr, dtype = _dense(grad)
    out_ptr = 0 if out is None else out.data_ptr()
    outputs = weight.shape[0]
    grad_x, grad_weight, grad_bias = grad.new_empty(0), weight.new_empty(0), weight.new_empty(0)
    # The last tile of an odd side holds one output, whose reflection falls on a neighbor tile's.
    odd = padding == "reflect" and not upsample and (h % 2 or w % 2)
    inputs = weight.shape[1]
    x_by_torch = odd or outputs == _FEW or (inputs == _FEW and padding == "reflect")
    weight_by_torch = inputs == _FEW or (weight.shape[2] == 4 and weight.numel() >= _LARGE_WEIGHT)
    pre_grad = grad  # gradient before the activation, for the parts that torch computes
    if out is not None and (needs_bias or (needs_x and x_by_torch) or (needs_weight and weight_by_torch)):
        pre_grad = torch.where(out <= 0, grad * slope if slope else 0.0, grad)
    if needs_x and x_by_torch:
        grad_x = _input_by_torch(pre_grad, weight, shape, padding)
    elif needs_x:
        grad_x = _native.empty(grad, shape, grad.dtype, torch.channels_last)
        arguments = grad_ptr, out_ptr, dtype, shape, _native.float32_ptr(weight), outputs, *options, grad_x.data_ptr()
        _native.call("conv2d_backward_input", grad.device, *arguments)
    if needs_weight and x is not None and weight_by_torch:
        grad_weight = _weight_by_torch(pre_grad, x, weight, stride, padding)
    elif needs_weight and x is not None:
        x = x.contiguous(memory_format=torch.channels_last)
        grad_weight = weight.new_empty(weight.shape)
        weight_arguments = _dense(x)[0], grad_ptr, out_ptr, dtype, shape, outputs, *options, grad_weight.data_ptr()
        _native.call("conv2d_backward_weight", grad.device, *weight_arguments)
    if needs_bias:
        grad_bias = pre_grad.sum((0, 2, 3), dtype=torch.float32)
    return grad_x, grad_weight, grad_bias


def _check(x: Tensor, weight: Tensor, stride: int, padding: str, upsample: bool, activation: str | None) -> None:
    """Guard the kernels' memory against direct calls of the registered op."""
    _native.check(x)
    square = weight.dim() == 4 and weight.shape[2] == weight.shape[3]
    if x.device.type != "cpu" or weight.dtype != torch.float32 or not weight.is_contiguous() or not square:
        raise ValueError(
            "expected tensors on cpu and a contiguous float32 weight (K, C, kernel, kernel), "
            f"got {tuple(x.shape)} on {x.device} and {weight.dtype} {tuple(weight.shape)}"
        )
    reason = unsupported_reason(x.dtype, tuple(weight.shape), stride, padding, upsample, activation)
    if reason is not None:
        raise ValueError(f"native {reason}")


def _check_input(shape: tuple[int, ...], weight: Tensor) -> None:
    min_side = 2 if weight.shape[2] == 4 else 1
    if shape[1] != weight.shape[1] or min(shape[2:]) < min_side:
        raise ValueError(f"expected (N, {weight.shape[1]}, H, W), {min_side} pixels a side or more, got {tuple(shape)}")


def _dense(x: Tensor) -> tuple[int, int]:
    if not x.is_contiguous(memory_format=torch.channels_last):
        raise ValueError(f"expected a dense channels_last tensor, got strides {x.stride()}")
    return x.data_ptr(), _native.dtype_code(x.dtype)


def _options(weight: Tensor, stride: int, padding: str, upsample: bool) -> tuple[int, int, int, bool]:
    return weight.shape[2], stride, PADDINGS.index(padding), upsample


def _input_by_torch(grad: Tensor, weight: Tensor, shape: tuple[int, ...], padding: str) -> Tensor:
    pad = weight.shape[2] // 2
    reflected = pad if padding == "reflect" else 0
    n, c, h, w = shape
    padded = grad.new_empty(1).expand(n, c, h + 2 * reflected, w + 2 * reflected)  # its shape is all that is read of it
    options = [1, 1], [pad - reflected] * 2, [1, 1], False, [0, 0], 1, [True, False, False]
    grad_padded, _, _ = torch.ops.aten.convolution_backward(grad, padded, weight.to(grad.dtype), None, *options)
    if not reflected:
        return grad_padded.contiguous(memory_format=torch.channels_last)
    x = grad.new_empty(1).expand(n, c, h, w)
    grad_x = torch.ops.aten.reflection_pad2d_backward(grad_padded, x, [reflected] * 4)
    return grad_x.contiguous(memory_format=torch.channels_last)


def _weight_by_torch(grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: str) -> Tensor:
    pad = (weight.shape[2] - 1) // 2
    if padding == "reflect" and pad:
        x, pad = F.pad(x, (pad,) * 4, mode="reflect"), 0
    weight = weight.to(x.dtype)
    options = [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], 1, [False, True, False]
    _, grad_weight, _ = torch.ops.aten.convolution_backward(grad, x, weight, None, *options)
    return grad_weight.float().contiguous()
