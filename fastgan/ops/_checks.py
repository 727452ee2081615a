"""Argument checks shared by the ops: errors name the value received and the values allowed."""

import math
import numbers

import torch
from torch import Tensor, nn

from fastgan.ops._registry import FLOATING

REDUCTIONS = ("mean", "none")
_NUMBERS = (float, int, numbers.Real, torch.SymInt, torch.SymFloat)
ACTIVATIONS: tuple[str | None, ...] = (None, "relu", "leaky_relu", "tanh")


def dense(name: str, tensor: Tensor, like: Tensor | None = None) -> None:
    """Check that it is a tensor whose elements lie in memory by its strides, on the device of `like`."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    if tensor.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got {tensor.layout}")
    if like is not None and tensor.device != like.device:
        raise ValueError(f"{name} must be on {like.device} as the first tensor is, got {tensor.device}")
    # Tensors of other types (a trace's, a transform's) need not have memory; the kernels check what they are given.
    if not torch.compiler.is_compiling() and type(tensor) in (Tensor, nn.Parameter):
        memory(name, tensor)


def memory(name: str, tensor: Tensor) -> None:
    """Raise RuntimeError, in torch's words, for a storage that is freed or smaller than the strides need.

    Sharded and offloaded training frees storages; torch's own kernels read on, and end the process.
    """
    try:
        size = tensor.untyped_storage().nbytes()
    except NotImplementedError:  # the tensor of a transform has none of its own
        return
    if tensor.is_contiguous() and not tensor.storage_offset() and tensor.nbytes <= size:
        return  # a third of the time of what follows
    shape, strides, offset, itemsize = tensor.shape, tensor.stride(), tensor.storage_offset(), tensor.element_size()
    needed = (offset + 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))) * itemsize
    if needed > size and tensor.numel():
        raise RuntimeError(
            f"{name}: sizes {list(shape)}, strides {list(strides)}, storage offset {offset}, and itemsize {itemsize} "
            f"requiring a storage size of {needed} are out of bounds for storage of size {size}; was it freed?"
        )


def floating(name: str, tensor: Tensor, like: Tensor | None = None) -> None:
    """Check that it is a dense tensor of a floating dtype that the ops serve, on the device of `like`."""
    dense(name, tensor, like)
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor, got {tensor.dtype}; convert and scale it first")
    if tensor.dtype not in FLOATING:
        raise TypeError(f"{name} must be one of {', '.join(map(str, FLOATING))}, got {tensor.dtype}")


def nchw(name: str, tensor: Tensor, like: Tensor | None = None) -> None:
    floating(name, tensor, like)
    if tensor.dim() != 4 or tensor.numel() == 0:
        raise ValueError(f"{name} must be a non-empty (N, C, H, W) tensor, got shape {tuple(tensor.shape)}")


def image_pair(x: Tensor, y: Tensor) -> None:
    nchw("x", x)
    nchw("y", y, x)
    if x.shape != y.shape:
        raise ValueError(f"x and y must have the same shape, got {tuple(x.shape)} and {tuple(y.shape)}")


def one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if not isinstance(value, (str, type(None))) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")


def number(name: str, value: float) -> None:
    if not isinstance(value, _NUMBERS):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")


def slope(name: str, value: float) -> None:
    number(name, value)
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}")


def positive(name: str, value: float) -> None:
    number(name, value)
    if not 0 < value < math.inf:  # comparisons alone: the compiler refuses math.isfinite of a value that changes
        raise ValueError(f"{name} must be a finite number above 0, got {value!r}")


def finite(name: str, value: float) -> None:
    number(name, value)
    if not -math.inf < value < math.inf:
        raise ValueError(f"{name} must be a finite number, got {value!r}")


def fraction(name: str, value: float) -> None:
    number(name, value)
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be a number from 0 to 1, got {value!r}")


def reduce(per_image: Tensor, reduction: str) -> Tensor:
    return per_image.mean() if reduction == "mean" else per_image
