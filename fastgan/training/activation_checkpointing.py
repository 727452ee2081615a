"""Activation checkpointing of the generator: less memory for more time."""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute_stages(network: nn.Module) -> None:
    """Save only the input of each stage of ``network`` (the members of its ModuleLists) for the backward pass.

    The rest is computed again; the gradients are the same bits. Parameters, names and earlier copies do not change.
    """
    for stage in (stage for part in network.children() if isinstance(part, nn.ModuleList) for stage in part):
        # Nothing in a generator draws random numbers.
        stage.forward = partial(checkpoint, stage.forward, use_reentrant=False, preserve_rng_state=False)
