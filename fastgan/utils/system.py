"""The machine: memory."""

from __future__ import annotations

import resource

import torch


def peak_bytes(device: torch.device) -> int:
    """The most memory taken since the process started: torch's on a GPU, else all that was resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
