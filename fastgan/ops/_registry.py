"""The backends of every op: what each can do, which one a call gets, and why the others were passed over."""

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
#: More than any registered op has: what torch.func and forward mode ask for, of which those know nothing.
_BEYOND_AUTOGRAD = 3
FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def _always(device: str) -> str | None:
    return None


# How many callers want gradients of gradients now. One count for all threads: what another thread runs meanwhile goes
# by the reference too, which is slower and as right.
_second_order = 0
_second_order_lock = threading.Lock()


@contextmanager
def second_order() -> Iterator[None]:
    """Within it, ops choose backends that can be differentiated twice.

    For the forward of what a penalty on gradients (R1; SPEC S19) goes through. Outside it, a second differentiation of
    a backend that has first-order gradients alone raises.
    """
    global _second_order
    with _second_order_lock:
        _second_order += 1
    try:
        yield
    finally:
        with _second_order_lock:
            _second_order -= 1


# The backends of calls, while someone asks for them.
_observed: list[str] | None = None


@contextmanager
def observed() -> Iterator[list[str]]:
    """The names of the backends that serve the calls within, in order: of one thread at a time."""
    global _observed
    names: list[str] = []
    _observed = names
    try:
        yield names
    finally:
        _observed = None


class Least(NamedTuple):
    """The fewest elements of a call's first tensor at which a backend is the faster, without gradients and with."""

    forward: int = 0
    gradient: int = 0


@dataclass(frozen=True)
class Backend:
    """One implementation of an op.

    `devices` None means any device, and `dtypes` may differ by device. `gradient_order` None means differentiable to
    any order and by torch.func, 2 often enough for a penalty on gradients, 0 not at all. `unavailable` gives the reason
    why it cannot run on a device in this process, or None when it can. Calls of fewer elements than `least` has for
    their device pass it over, unless they ask for it by name.
    """

    op: str
    name: str
    function: Callable[..., Any]
    devices: tuple[str, ...] | None = None
    dtypes: tuple[torch.dtype, ...] | dict[str, tuple[torch.dtype, ...]] = FLOATING
    gradient_order: int | None = None
    unavailable: Callable[[str], str | None] = _always
    least: dict[str, Least] = field(default_factory=dict)

    def __call__(self, *args: Any) -> Any:
        if torch.compiler.is_compiling():
            return self.function(*args)
        if _observed is not None:
            _observed.append(self.name)
        with record_function(f"fastgan::{self.op}[{self.name}]"):
            return self.function(*args)

    def takes(self, device: str) -> tuple[torch.dtype, ...]:
        """The dtypes that it serves on a device."""
        return self.dtypes if isinstance(self.dtypes, tuple) else self.dtypes.get(device, ())

    def refusal(self, device: str, dtypes: tuple[torch.dtype, ...], order: int) -> str | None:
        """Why this backend cannot serve a call that is differentiated `order` times, or None when it can."""
        if self.devices is not None and device not in self.devices:
            return f"runs on {', '.join(self.devices)}, not on {device}"
        for dtype in dtypes:
            if dtype not in self.takes(device):
                return f"takes {', '.join(map(dtype_name, self.takes(device)))}, not {dtype_name(dtype)}"
        if self.gradient_order is not None and order > self.gradient_order:
            if self.gradient_order == 0:
                return "has no gradient; use torch.no_grad() or backend='reference'"
            if self.gradient_order == 1:
                return "has gradients of first order by autograd alone: no ops.second_order(), torch.func, forward mode"
            return "has gradients by autograd alone: no torch.func, forward mode"
        return self.unavailable(device)

    def too_small(self, tensor: Tensor, order: int) -> bool:
        """Whether something else is faster for a call of this size."""
        least = self.least.get(tensor.device.type)
        return least is not None and tensor.numel() < (least.gradient if order else least.forward)


@dataclass(frozen=True)
class _Op:
    backends: dict[str, Backend]
    fastest: dict[str, tuple[str, ...]]

    def order(self, device: str) -> tuple[str, ...]:
        return self.fastest.get(device, ("reference",))


_OPS: dict[str, _Op] = {}


def register(*backends: Backend, fastest: dict[str, tuple[str, ...]] | None = None) -> None:
    """Add an op by its backends; `fastest` gives a device's order of choice, fastest measured first."""
    op = backends[0].op
    if op in _OPS:
        raise ValueError(f"op {op!r} is registered already")
    _OPS[op] = _Op({backend.name: backend for backend in backends}, fastest or {})


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
_told: set[str] = set()


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
    cheap: bool = True,
    refused: Mapping[str, str | None] | None = None,
) -> Backend:
    """The backend that serves a call of `op` on these tensors (None among them is passed over).

    `result` is the dtype that an argument asks for, which a backend must take as well. `cheap` tells whether
    `Backend.least` holds for these arguments: others can have a reference that is slower at any size. `refused` gives,
    by backend, why it cannot serve these arguments.
    Order: `backend`; then FASTGAN_BACKEND; then the fastest that can do it. Raises ValueError, with the reason, when a
    backend asked for by name for this op cannot be had.
    """
    given = [tensor for tensor in tensors if tensor is not None]
    device = given[0].device.type
    if any(tensor.device != given[0].device for tensor in given):
        raise ValueError(f"{op} needs its tensors on one device, got {', '.join(str(t.device) for t in given)}")
    dtypes = tuple(tensor.dtype for tensor in given) + (() if result is None else (result,))
    order = 0
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given):
        order = 2 if _second_order else 1
    if not torch.compiler.is_compiling() and _transformed():
        order = _BEYOND_AUTOGRAD
    entry = _OPS[op]

    def refusal(candidate: Backend) -> str | None:
        return candidate.refusal(device, dtypes, order) or (refused or {}).get(candidate.name)

    if backend is not None:
        return _honour(entry, op, backend, "backend", refusal)
    if _FORCED_TEXT:
        _check_forced()
        if op in _FORCED:
            return _honour(entry, op, _FORCED[op], "FASTGAN_BACKEND", refusal)
        if _FORCED_ALL is not None:
            if _FORCED_ALL not in entry.backends:
                reason: str | None = "it has no such backend"
            else:
                reason = refusal(entry.backends[_FORCED_ALL])
            if reason is None:
                return entry.backends[_FORCED_ALL]
            _tell(f"FASTGAN_BACKEND={_FORCED_ALL} is not followed by {op}: {reason}")
    for name in entry.order(device):
        chosen = entry.backends[name]
        if cheap and chosen.too_small(given[0], order):
            continue
        if refusal(chosen) is None:
            return chosen
    reasons = "; ".join(f"{b.name} {refusal(b)}" for b in entry.backends.values())
    raise ValueError(f"no backend of {op} can serve this call: {reasons}")


def _transformed() -> bool:
    """Whether torch.func or forward-mode differentiation is at work: what is registered knows neither."""
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


def _honour(entry: _Op, op: str, name: str, source: str, refusal: Callable[[Backend], str | None]) -> Backend:
    wrong = InputError if source == "FASTGAN_BACKEND" else ValueError
    if name not in entry.backends:
        raise wrong(f"{source}: {op} has no backend {name!r}; it has {', '.join(entry.backends)}")
    chosen = entry.backends[name]
    reason = refusal(chosen)
    if reason is not None:
        raise wrong(f"{source}: {op} cannot use {name!r} here: it {reason}")
    return chosen


def _tell(message: str) -> None:
    if not torch.compiler.is_compiling() and message not in _told:
        _told.add(message)
        logger.info(message)


def report(devices: tuple[str, ...] = ("cpu", "cuda")) -> dict[str, Any]:
    """What each op runs by default for float32 on each device, and why not something else: plain lists and dicts.

    `forward` is the choice without gradients, `gradient` the choice where an input needs one; a backend's `least` are
    the elements from which on it is the choice, of those two kinds.
    """
    _check_forced()
    rows = []
    for op in sorted(_OPS):
        for device in devices:
            forward, gradient = _default(op, device, 0), _default(op, device, 1)
            backends = []
            for candidate in _OPS[op].backends.values():
                reason = candidate.refusal(device, (), 0)
                if candidate.name == forward:
                    reason = "chosen"
                elif reason is None:
                    measured = device in _OPS[op].fastest
                    reason = f"not measured on {device} yet: FASTGAN_BACKEND asks for it"
                    if measured:
                        reason = _slower(_OPS[op], device, candidate.name, forward)
                    if _FORCED_TEXT:
                        reason += ", or passed over by FASTGAN_BACKEND"
                limits = [] if candidate.gradient_order is None else [_LIMITS[candidate.gradient_order]]
                dtypes = [dtype_name(dtype) for dtype in candidate.takes(device)]
                least = candidate.least.get(device, Least())._asdict()
                backends.append(
                    {"name": candidate.name, "reason": reason, "dtypes": dtypes, "limits": limits, "least": least}
                )
            rows.append({"op": op, "device": device, "forward": forward, "gradient": gradient, "backends": backends})
    return {"forced": _FORCED_TEXT or None, "ops": rows}


def _slower(entry: _Op, device: str, name: str, chosen: str) -> str:
    """Why `name` is passed over for `chosen`; or where it is not, because calls are too small for that one."""
    order = entry.order(device)
    least = entry.backends[chosen].least.get(device) if chosen in entry.backends else None
    if least is None or name not in order or order.index(name) < order.index(chosen):
        return "slower here"
    sizes = {"": least.forward, " with gradients": least.gradient}
    bounds = " and ".join(f"{size:,} elements{kind}" for kind, size in sizes.items() if size)
    return f"faster here, and chosen, below {bounds}; slower beyond"


def _default(op: str, device: str, order: int) -> str:
    entry = _OPS[op]
    for name in (_FORCED.get(op), _FORCED_ALL, *entry.order(device)):
        if name in entry.backends and entry.backends[name].refusal(device, (), order) is None:
            return name
    return "none"
