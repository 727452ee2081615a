"""The backends of every op: what each can do, which one a call gets, and why the others were passed over."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function

from fastgan.errors import InputError

logger = logging.getLogger("fastgan")

FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def _always() -> str | None:
    return None


@dataclass(frozen=True)
class Backend:
    """One implementation of an op.

    `devices` None means any device; `gradient_order` None means differentiable to any order, 0 not at all.
    `unavailable` gives the reason why it cannot run in this process, or None when it can.
    """

    op: str
    name: str
    function: Callable[..., Any]
    devices: tuple[str, ...] | None = None
    dtypes: tuple[torch.dtype, ...] = FLOATING
    gradient_order: int | None = None
    unavailable: Callable[[], str | None] = _always

    def __call__(self, *args: Any) -> Any:
        if torch.compiler.is_compiling():
            return self.function(*args)
        with record_function(f"fastgan::{self.op}[{self.name}]"):
            return self.function(*args)

    def refusal(self, device: str, dtypes: tuple[torch.dtype, ...], gradient: bool) -> str | None:
        """Why this backend cannot serve such a call, or None when it can."""
        if self.devices is not None and device not in self.devices:
            return f"runs on {', '.join(self.devices)}, not on {device}"
        for dtype in dtypes:
            if dtype not in self.dtypes:
                return f"takes {', '.join(map(_short, self.dtypes))}, not {_short(dtype)}"
        if gradient and self.gradient_order == 0:
            return "has no gradient yet; use torch.no_grad() or backend='reference'"
        return self.unavailable()


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


def select(op: str, *tensors: Tensor | None, backend: str | None = None) -> Backend:
    """The backend that serves a call of `op` on these tensors (None among them is passed over).

    Order: `backend`; then FASTGAN_BACKEND; then the fastest that can do it. Raises ValueError, with the reason, when a
    backend asked for by name for this op cannot be had.
    """
    given = [tensor for tensor in tensors if tensor is not None]
    device = given[0].device.type
    if any(tensor.device != given[0].device for tensor in given):
        raise ValueError(f"{op} needs its tensors on one device, got {', '.join(str(t.device) for t in given)}")
    dtypes = tuple(tensor.dtype for tensor in given)
    gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given)
    entry = _OPS[op]
    if backend is not None:
        return _honour(entry, op, backend, "backend", device, dtypes, gradient)
    if _FORCED_TEXT:
        _check_forced()
        if op in _FORCED:
            return _honour(entry, op, _FORCED[op], "FASTGAN_BACKEND", device, dtypes, gradient)
        if _FORCED_ALL is not None:
            if _FORCED_ALL not in entry.backends:
                reason: str | None = "it has no such backend"
            else:
                reason = entry.backends[_FORCED_ALL].refusal(device, dtypes, gradient)
            if reason is None:
                return entry.backends[_FORCED_ALL]
            _tell(f"FASTGAN_BACKEND={_FORCED_ALL} is not followed by {op}: {reason}")
    for name in entry.order(device):
        chosen = entry.backends[name]
        if chosen.refusal(device, dtypes, gradient) is None:
            return chosen
    reasons = "; ".join(f"{b.name} {b.refusal(device, dtypes, gradient)}" for b in entry.backends.values())
    raise ValueError(f"no backend of {op} can serve this call: {reasons}")


def _honour(
    entry: _Op, op: str, name: str, source: str, device: str, dtypes: tuple[torch.dtype, ...], gradient: bool
) -> Backend:
    wrong = InputError if source == "FASTGAN_BACKEND" else ValueError
    if name not in entry.backends:
        raise wrong(f"{source}: {op} has no backend {name!r}; it has {', '.join(entry.backends)}")
    chosen = entry.backends[name]
    reason = chosen.refusal(device, dtypes, gradient)
    if reason is not None:
        raise wrong(f"{source}: {op} cannot use {name!r} here: it {reason}")
    return chosen


def _tell(message: str) -> None:
    if not torch.compiler.is_compiling() and message not in _told:
        _told.add(message)
        logger.info(message)


def report(devices: tuple[str, ...] = ("cpu", "cuda")) -> dict[str, Any]:
    """What each op runs by default for float32 on each device, and why not something else: plain lists and dicts.

    `forward` is the choice without gradients, `gradient` the choice where an input needs one.
    """
    _check_forced()
    rows = []
    for op in sorted(_OPS):
        for device in devices:
            forward, gradient = _default(op, device, False), _default(op, device, True)
            backends = []
            for candidate in _OPS[op].backends.values():
                reason = candidate.refusal(device, (), False)
                if candidate.name == forward:
                    reason = "chosen"
                elif reason is None:
                    reason = "slower here, or passed over by FASTGAN_BACKEND" if _FORCED_TEXT else "slower here"
                limits = ["no gradient"] if candidate.gradient_order == 0 else []
                dtypes = [_short(dtype) for dtype in candidate.dtypes]
                backends.append({"name": candidate.name, "reason": reason, "dtypes": dtypes, "limits": limits})
            rows.append({"op": op, "device": device, "forward": forward, "gradient": gradient, "backends": backends})
    return {"forced": _FORCED_TEXT or None, "ops": rows}


def _default(op: str, device: str, gradient: bool) -> str:
    entry = _OPS[op]
    for name in (_FORCED.get(op), _FORCED_ALL, *entry.order(device)):
        if name in entry.backends and entry.backends[name].refusal(device, (), gradient) is None:
            return name
    return "none"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
