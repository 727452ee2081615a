"""Bias, activation, gain and clamp in plain torch."""

import torch
import torch.nn.functional as F
from torch import Tensor


def bias_act(
    x: Tensor,
    bias: Tensor | None,
    activation: str | None,
    negative_slope: float,
    gain: float,
    clamp: float | None,
) -> Tensor:
    y = x if x.dtype == torch.float64 else x.float()
    if bias is not None:
        y = y + bias.to(y.dtype)[:, None, None]
    if activation == "relu":
        y = F.relu(y)
    elif activation == "leaky_relu":
        y = F.leaky_relu(y, negative_slope)
    elif activation == "tanh":
        y = y.tanh()
    if gain != 1:
        y = y * gain
    if clamp is not None:
        # At the limit itself torch.clamp's gradient is 0 or 1 by version; here it is 0 from the limit on.
        y = torch.where(y.abs() >= clamp, y.detach().clamp(-clamp, clamp), y)
    return y.to(x.dtype)
