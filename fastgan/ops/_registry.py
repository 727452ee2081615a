"""Registry of op backends: their capabilities, the choice among them, and a report of both."""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.profiler import record_function

from fastgan.errors import InputError
from fastgan.utils.format import dtype_name

logger = logging.getLogger("fastgan")

_LIMITS = ("no gradient", "first-order gradients", "gradients by autograd alone")
#: Above the order of any registered op: torch.func and forward mode need the reference, in plain torch.
_BEYOND_AUTOGRAD = 3
FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def _always_available(device: str) -> str | None:
    return None


# The number of active `second_order` contexts. One count for all threads: other threads use backends that can be
# differentiated twice meanwhile, which are slower and just as correct.
_second_order = 0
_second_order_lock = threading.Lock()


@contextmanager
def second_order() -> Iterator[None]:
    """Context in which ops choose backends that can be differentiated twice.

    Run the forward pass of a gradient penalty (R1; SPEC S19) in it. Outside it, differentiating a backend that has only
    first-order gradients twice raises.

    Example:
        >>> import torch
        >>> from fastgan import ops
        >>> x = torch.ones(1, 1, 2, 2, requires_grad=True)
        >>> with ops.second_order():
        ...     y = ops.bias_act(x, activation="tanh")
        >>> (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        >>> gradient.requires_grad
        True
    """
    global _second_order
    with _second_order_lock:
        _second_order += 1
    try:
        yield
    finally:
        with _second_order_lock:
            _second_order -= 1


# Names of the backends that served calls, while `record_backends` is active.
_recorded: list[str] | None = None


@contextmanager
def record_backends() -> Iterator[list[str]]:
    """Record the names of the backends that serve the calls within, in order. For one thread at a time."""
    global _recorded
    recorded: list[str] = []
    _recorded = recorded
    try:
        yield recorded
    finally:
        _recorded = None


class MinNumel(NamedTuple):
    """Smallest size of a call's first tensor, in elements, for which a backend is faster: without, with gradients."""

    forward: int = 0
    gradient: int = 0


@dataclass(frozen=True)
class Backend:
    """One implementation of an op.

    `devices` None means any device, and `dtypes` may differ by device. `gradient_order` None means differentiable to
    any order and by torch.func, 2 often enough for a penalty on gradients, 0 not at all. `unavailable_reason` gives the
    reason why it cannot run on a device in this process, or None when it can. Calls of fewer elements than `min_numel`
    has for their device skip it, unless they request it by name.
    """

    op: str
    name: str
    function: Callable[..., Any]
    devices: tuple[str, ...] | None = None
    dtypes: tuple[torch.dtype, ...] | dict[str, tuple[torch.dtype, ...]] = FLOATING
    gradient_order: int | None = None
    unavailable_reason: Callable[[str], str | None] = _always_available
    min_numel: dict[str, MinNumel] = field(default_factory=dict)

    def __call__(self, *args: Any) -> Any:
        if torch.compiler.is_compiling():
            return self.function(*args)
        if _recorded is not None:
            _recorded.append(self.name)
        with record_function(f"fastgan::{self.op}[{self.name}]"):
            return self.function(*args)

    def supported_dtypes(self, device: str) -> tuple[torch.dtype, ...]:
        """The dtypes that the backend serves on a device."""
        return self.dtypes if isinstance(self.dtypes, tuple) else self.dtypes.get(device, ())

    def unsupported_reason(self, device: str, dtypes: tuple[torch.dtype, ...], order: int) -> str | None:
        """Reason why this backend cannot serve a call that is differentiated `order` times, or None when it can."""
        if self.devices is not None and device not in self.devices:
            return f"runs on {', '.join(self.devices)}, not on {device}"
        for dtype in dtypes:
            if dtype not in self.supported_dtypes(device):
                return f"takes {', '.join(map(dtype_name, self.supported_dtypes(device)))}, not {dtype_name(dtype)}"
        if self.gradient_order is not None and order > self.gradient_order:
            if self.gradient_order == 0:
                return "has no gradient; use torch.no_grad() or backend='reference'"
            if self.gradient_order == 1:
                return "has gradients of first order by autograd alone: no ops.second_order(), torch.func, forward mode"
            return "has gradients by autograd alone: no torch.func, forward mode"
        return self.unavailable_reason(device)

    def too_small(self, tensor: Tensor, order: int) -> bool:
        """Whether another backend is faster for a call of this size."""
        min_numel = self.min_numel.get(tensor.device.type)
        return min_numel is not None and tensor.numel() < (min_numel.gradient if order else min_numel.forward)


@dataclass(frozen=True)
class _Op:
    backends: dict[str, Backend]
    preference: dict[str, tuple[str, ...]]

    def order(self, device: str) -> tuple[str, ...]:
        return self.preference.get(device, ("reference",))


_OPS: dict[str, _Op] = {}


def register(*backends: Backend, preference: dict[str, tuple[str, ...]] | None = None) -> None:
    """Add an op by its backends; `preference` has the order of choice for each device, fastest measured first."""
    op = backends[0].op
    if op in _OPS:
        raise ValueError(f"op {op!r} is registered already")
    _OPS[op] = _Op({backend.name: backend for backend in backends}, preference or {})


def _parse(text: str) -> tuple[str | None, dict[str, str]]:
    bare: str | None = None
    by_op: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        op, colon, name = item.partition(":")
        if colon:
            by_op[op.strip()] = name.strip()
        else:
            bare = item
    return bare, by_op


_FORCED_TEXT = os.environ.get("FASTGAN_BACKEND", "")
_FORCED_ALL, _FORCED = _parse(_FORCED_TEXT)
_logged: set[str] = set()


def _check_forced() -> None:
    for op, name in _FORCED.items():
        if op not in _OPS:
            raise InputError(f"FASTGAN_BACKEND names the unknown op {op!r}; the ops are {', '.join(sorted(_OPS))}")
        if name not in _OPS[op].backends:
            allowed = ", ".join(_OPS[op].backends)
            raise InputError(f"FASTGAN_BACKEND asks for {op}:{name}, but the backends of {op} are {allowed}")
    names = {name for op in _OPS.values() for name in op.backends}
    if _FORCED_ALL is not None and _FORCED_ALL not in names:
        raise InputError(f"FASTGAN_BACKEND={_FORCED_TEXT!r}: backends are {', '.join(sorted(names))}")


def select(
    op: str,
    *tensors: Tensor | None,
    backend: str | None = None,
    result: torch.dtype | None = None,
    apply_min_numel: bool = True,
    unsupported: Mapping[str, str | None] | None = None,
) -> Backend:
    """Select the backend that serves a call of `op` on these tensors; None among them is ignored.

    `result` is the dtype of the result where an argument sets it; the backend must support it too. `apply_min_numel` is
    False for arguments with which the reference is slower at any size: `Backend.min_numel` is then ignored.
    `unsupported` has, by backend, the reason why it cannot serve these arguments.
    Order: `backend`; then FASTGAN_BACKEND; then the first of the device's preference that supports the call. Raises
    ValueError, with the reason, when a backend requested by name for this op cannot serve the call.
    """
    operands = [tensor for tensor in tensors if tensor is not None]
    device = operands[0].device.type
    if any(tensor.device != operands[0].device for tensor in operands):
        raise ValueError(f"{op} needs its tensors on one device, got {', '.join(str(t.device) for t in operands)}")
    dtypes = tuple(tensor.dtype for tensor in operands) + (() if result is None else (result,))
    order = 0
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in operands):
        order = 2 if _second_order else 1
    if not torch.compiler.is_compiling() and _in_transform():
        order = _BEYOND_AUTOGRAD
    entry = _OPS[op]

    def unsupported_reason(candidate: Backend) -> str | None:
        return candidate.unsupported_reason(device, dtypes, order) or (unsupported or {}).get(candidate.name)

    if backend is not None:
        return _require_backend(entry, op, backend, "backend", unsupported_reason)
    if _FORCED_TEXT:
        _check_forced()
        if op in _FORCED:
            return _require_backend(entry, op, _FORCED[op], "FASTGAN_BACKEND", unsupported_reason)
        if _FORCED_ALL is not None:
            if _FORCED_ALL not in entry.backends:
                reason: str | None = "it has no such backend"
            else:
                reason = unsupported_reason(entry.backends[_FORCED_ALL])
            if reason is None:
                return entry.backends[_FORCED_ALL]
            _log_once(f"FASTGAN_BACKEND={_FORCED_ALL} is not followed by {op}: {reason}")
    for name in entry.order(device):
        candidate = entry.backends[name]
        if apply_min_numel and candidate.too_small(operands[0], order):
            continue
        if unsupported_reason(candidate) is None:
            return candidate
    reasons = "; ".join(f"{b.name} {unsupported_reason(b)}" for b in entry.backends.values())
    raise ValueError(f"no backend of {op} can serve this call: {reasons}")


def _in_transform() -> bool:
    """Whether torch.func or forward-mode differentiation is active; registered ops support neither."""
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


def _require_backend(
    entry: _Op, op: str, name: str, source: str, unsupported_reason: Callable[[Backend], str | None]
) -> Backend:
    wrong = InputError if source == "FASTGAN_BACKEND" else ValueError
    if not isinstance(name, str) or name not in entry.backends:
        raise wrong(f"{source}: {op} has no backend {name!r}; it has {', '.join(entry.backends)}")
    candidate = entry.backends[name]
    reason = unsupported_reason(candidate)
    if reason is not None:
        raise wrong(f"{source}: {op} cannot use {name!r} here: it {reason}")
    return candidate


def _log_once(message: str) -> None:
    if not torch.compiler.is_compiling() and message not in _logged:
        _logged.add(message)
        logger.info(message)


def report(devices: tuple[str, ...] = ("cpu", "cuda")) -> dict[str, Any]:
    """Report the default backend of each op for float32 on each device, and why others are not used, as plain data.

    `forward` is the choice without gradients, `gradient` the choice where an input needs one; a backend's
    `min_numel` has, for both, the number of elements from which on it is chosen.

    Example:
        >>> from fastgan import ops
        >>> [row["op"] for row in ops.report(("cpu",))["ops"]][:3]
        ['bias_act', 'check_finite', 'conv2d']
    """
    _check_forced()
    rows = []
    for op in sorted(_OPS):
        for device in devices:
            forward, gradient = _default(op, device, 0), _default(op, device, 1)
            backends = []
            for candidate in _OPS[op].backends.values():
                reason = candidate.unsupported_reason(device, (), 0)
                if candidate.name == forward:
                    reason = "chosen"
                elif reason is None:
                    measured = device in _OPS[op].preference
                    reason = f"not measured on {device} yet: FASTGAN_BACKEND asks for it"
                    if measured:
                        reason = _slower(_OPS[op], device, candidate.name, forward)
                    if _FORCED_TEXT:
                        reason += ", or passed over by FASTGAN_BACKEND"
                limits = [] if candidate.gradient_order is None else [_LIMITS[candidate.gradient_order]]
                dtypes = [dtype_name(dtype) for dtype in candidate.supported_dtypes(device)]
                min_numel = candidate.min_numel.get(device, MinNumel())._asdict()
                backends.append(
                    {
                        "name": candidate.name,
                        "reason": reason,
                        "dtypes": dtypes,
                        "limits": limits,
                        "min_numel": min_numel,
                    }
                )
            rows.append({"op": op, "device": device, "forward": forward, "gradient": gradient, "backends": backends})
    return {"forced": _FORCED_TEXT or None, "ops": rows}


def _slower(entry: _Op, device: str, name: str, default: str) -> str:
    """Reason why `default` is preferred to `name`, with the sizes below which `name` is chosen, if any."""
    order = entry.order(device)
    min_numel = entry.backends[default].min_numel.get(device) if default in entry.backends else None
    if min_numel is None or name not in order or order.index(name) < order.index(default):
        return "slower here"
    sizes = {"": min_numel.forward, " with gradients": min_numel.gradient}
    bounds = " and ".join(f"{size:,} elements{kind}" for kind, size in sizes.items() if size)
    return f"faster here, and chosen, below {bounds}; slower beyond"


def _default(op: str, device: str, order: int) -> str:
    entry = _OPS[op]
    for name in (_FORCED.get(op), _FORCED_ALL, *entry.order(device)):
        if name in entry.backends and entry.backends[name].unsupported_reason(device, (), order) is None:
            return name
    return "none"
