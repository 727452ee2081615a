"""Argument checks shared by the ops: errors name the value received and the values allowed."""

import math

import torch
from torch import Tensor

REDUCTIONS = ("mean", "none")
ACTIVATIONS: tuple[str | None, ...] = (None, "relu", "leaky_relu", "tanh")


def floating(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor, got {tensor.dtype}; convert and scale it first")
    if tensor.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got {tensor.layout}")


def nchw(name: str, tensor: Tensor) -> None:
    floating(name, tensor)
    if tensor.dim() != 4 or tensor.numel() == 0:
        raise ValueError(f"{name} must be a non-empty (N, C, H, W) tensor, got shape {tuple(tensor.shape)}")


def image_pair(x: Tensor, y: Tensor) -> None:
    nchw("x", x)
    nchw("y", y)
    if x.shape != y.shape:
        raise ValueError(f"x and y must have the same shape, got {tuple(x.shape)} and {tuple(y.shape)}")


def one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")


def _number(name: str, value: float) -> None:
    if value is None or isinstance(value, (str, Tensor)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")


def slope(name: str, value: float) -> None:
    _number(name, value)
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}")


def positive(name: str, value: float) -> None:
    _number(name, value)
    if not 0 < value < math.inf:  # comparisons alone: the compiler refuses math.isfinite of a value that changes
        raise ValueError(f"{name} must be a finite number above 0, got {value!r}")


def finite(name: str, value: float) -> None:
    _number(name, value)
    if not -math.inf < value < math.inf:
        raise ValueError(f"{name} must be a finite number, got {value!r}")


def fraction(name: str, value: float) -> None:
    _number(name, value)
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be a number from 0 to 1, got {value!r}")


def reduce(per_image: Tensor, reduction: str) -> Tensor:
    return per_image.mean() if reduction == "mean" else per_image
