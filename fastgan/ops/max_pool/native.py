"""2x2 max-pool by the extension, on CPU."""

import torch
from torch import Tensor

from fastgan.ops import _native


def forward(x: Tensor) -> Tensor:
    n, c, h, w = _shape(x)
    out = _native.empty(x, (n, c, h // 2, w // 2), x.dtype, torch.channels_last)
    _native.call("max_pool_forward", x.device, x.data_ptr(), _native.dtype_code(x.dtype), (n, c, h, w), out.data_ptr())
    return out


def backward(grad: Tensor, x: Tensor, out: Tensor) -> Tensor:
    """The gradient of x; to the first of a window's largest values, as torch has it."""
    n, c, h, w = _shape(x)
    for name, tensor in (("grad", grad), ("out", out)):
        expected = n, c, h // 2, w // 2
        if tuple(tensor.shape) != expected or tensor.dtype != x.dtype or tensor.device != x.device:
            raise ValueError(f"{name} must be {x.dtype} {expected} on cpu, got {tensor.dtype} {tuple(tensor.shape)}")
    grad, out = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (grad, out))
    grad_x = _native.empty(x, x.shape, x.dtype, torch.channels_last)
    pointers = x.data_ptr(), out.data_ptr(), grad.data_ptr()
    _native.call("max_pool_backward", x.device, *pointers, _native.dtype_code(x.dtype), (n, c, h, w), grad_x.data_ptr())
    return grad_x


def _shape(x: Tensor) -> tuple[int, int, int, int]:
    """Guard the kernels' memory against direct calls of the registered op."""
    _native.check(x)
    n, c, h, w = x.shape
    if x.device.type != "cpu" or min(h, w) < 2 or not x.is_contiguous(memory_format=torch.channels_last):
        raise ValueError(
            "expected a dense channels_last tensor on cpu of 2 pixels a side or more, "
            f"got {tuple(x.shape)} with strides {x.stride()} on {x.device}"
        )
    return n, c, h, w
