"""Fusion of features in plain torch."""

import torch
from torch import Tensor

from fastgan.ops.instance_norm import instance_norm

EPS = 1e-5


def fuse(content: Tensor, style: Tensor, mode: str, alpha: float | Tensor) -> Tensor:
    dtype = torch.promote_types(torch.promote_types(content.dtype, style.dtype), torch.float32)
    channels_last = content.is_contiguous(memory_format=torch.channels_last) and not content.is_contiguous()
    f_c, f_s = content.to(dtype), style.to(dtype)
    a = alpha.to(dtype).view(-1, 1, 1, 1) if isinstance(alpha, Tensor) else alpha
    if mode == "additive":
        fused = f_c + a * f_s
    elif mode == "convex":
        fused = a * f_c + (1 - a) * f_s
    else:
        var, mean = torch.var_mean(f_s, dim=(2, 3), correction=0, keepdim=True)
        weight, bias = a * torch.sqrt(var + EPS), a * mean
        fused = instance_norm(f_c, weight.flatten(1), bias.flatten(1), (1 - a) * f_c, eps=EPS, backend="reference")
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return fused.to(content.dtype).contiguous(memory_format=layout)
