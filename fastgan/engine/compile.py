"""``torch.compile`` of a network, kept only if it computes what eager does."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastgan.engine.precision import autocast
from fastgan.errors import first_line

#: Largest difference allowed, relative to the largest value of eager's result: rounding, in another order.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}


def compile_verified(network: nn.Module, example: Tensor, device: torch.device, dtype: torch.dtype) -> str | None:
    """Compile ``network`` in place and compare output and input gradient on ``example`` with eager.

    Returns:
        None if the compiled network is kept; otherwise why not, and the network runs eagerly as before.
    """
    expected = _output_and_gradient(network, example, device, dtype)
    try:
        network.compile()
        got = _output_and_gradient(network, example, device, dtype)
    except Exception as error:
        network._compiled_call_impl = None
        return f"{type(error).__name__}: {first_line(error)[:160]}"
    for name, want, have in zip(("output", "gradient"), expected, got, strict=True):
        difference = ((have - want).abs().max() / want.abs().max().clamp_min(1e-12)).item()
        if not difference <= _TOLERANCE[dtype]:
            network._compiled_call_impl = None
            return f"its {name} differs from eager's by {difference:.1e} of the largest value"
    return None


def _output_and_gradient(
    network: nn.Module, example: Tensor, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    # Batch norm and spectral norm keep what they see: the check must leave no trace in the run.
    kept = [buffer.clone() for buffer in network.buffers()]
    x = example.detach().requires_grad_()
    with autocast(device, dtype):
        out = network(x)
    outputs = list(out.values()) if isinstance(out, dict) else [out]
    total = sum((value.float().square().mean() for value in outputs), torch.zeros((), device=device))
    (gradient,) = torch.autograd.grad(total, x)
    with torch.no_grad():
        for buffer, value in zip(network.buffers(), kept, strict=True):
            buffer.copy_(value)
    return outputs[-1].detach().float(), gradient.float()
