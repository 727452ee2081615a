"""Registration of ops as `torch.ops.fastgan.<op>`, opaque to the compiler and autograd."""

import functools
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor

from fastgan.ops import _checks

# Module-level: ops stay registered as long as the library object lives.
_LIBRARY = torch.library.Library("fastgan", "FRAGMENT")


def define(
    schema: str,
    function: Callable[..., Any],
    devices: tuple[str, ...] = ("CPU", "CUDA"),
    *,
    differentiable: bool = False,
) -> Callable[..., Any]:
    """Register an op for the devices and return it; the caller registers its fake and its autograd.

    An op named `..._backward` is a first-order gradient, and differentiating it raises RuntimeError unless the caller
    has a formula (`differentiable`): with no autograd at all it would pass for a constant, and the gradient of a
    penalty come out wrong without a word.
    """
    _LIBRARY.define(schema)
    name = schema.partition("(")[0]
    op = getattr(torch.ops.fastgan, name).default
    arguments = enumerate(op._schema.arguments)
    tensors = [(index, argument.name) for index, argument in arguments if "Tensor" in str(argument.type)]
    checked = _with_memory_checked(function, tensors)
    for device in devices:
        _LIBRARY.impl(name, checked, device)
    if name.endswith("_backward") and not differentiable:
        torch.library.register_autograd(f"fastgan::{name}", refuse)
    return op


def _with_memory_checked(function: Callable[..., Any], tensors: list[tuple[int, str]]) -> Callable[..., Any]:
    """The function of a kernel, which takes pointers, behind a check that every tensor has memory.

    `tensors` has place and name of the arguments that are tensors. Gradients and what is saved for them come here too.
    """

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        for index, name in tensors:
            value = args[index]
            if isinstance(value, Tensor):
                _checks.memory(name, value)
            elif value is not None:
                for tensor in value:
                    _checks.memory(name, tensor)
        return function(*args)

    return call


def refuse(*_: Any) -> NoReturn:
    """Raise: the derivative of a gradient is not supported."""
    raise RuntimeError(
        "this op's backend has first-order gradients alone: run the forward within "
        "fastgan.ops.second_order(), or with backend='reference'"
    )
