"""Settings of the host program that a call does not see: autocast, gradient modes, default device and dtype."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

_building = threading.RLock()


@contextmanager
def own_settings() -> Iterator[None]:
    """Context without the caller's autocast, ``no_grad``, ``inference_mode`` and default device; a decorator, too.

    All four are of a thread: others do not notice. Code within gives a dtype wherever torch would take the default one,
    which is of the process.
    """
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


@contextmanager
def building(seed: int | None = None) -> Iterator[None]:
    """Context in which networks are made: in float32, from ``seed``, one thread at a time.

    Layers are initialized from torch's global random state and in its default dtype; both are as before afterwards.
    """
    with _building, torch.random.fork_rng(devices=[]):
        dtype = torch.get_default_dtype()
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
        try:
            if seed is not None:
                torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed every GPU too
            yield
        finally:
            if dtype != torch.float32:
                torch.set_default_dtype(dtype)
