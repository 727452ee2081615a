"""Layers shared by the networks."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from fastgan import ops
from fastgan.precision import autocast

EPS = 1e-5


def at_least_float32(x: Tensor) -> Tensor:
    """Cast ``x`` to float32 unless it is float64."""
    return x if x.dtype == torch.float64 else x.float()


class MomentRecorder(nn.Module):
    """Base of modules that normalize planes; tiled inference records their moments on the reduced picture for reuse.

    While ``recording``, each forward stores the moments of its input in ``frozen``: the mean and
    1 / sqrt(variance + eps), each (N, C, 1, 1). Later forwards use them; None computes them from the input.
    """

    def __init__(self) -> None:
        super().__init__()
        self.recording = False
        self.frozen: tuple[Tensor, Tensor] | None = None

    def record(self, x: Tensor) -> None:
        """Store the moments of ``x`` (N, C, H, W) in ``frozen``."""
        var, mean = torch.var_mean(at_least_float32(x), dim=(2, 3), correction=0, keepdim=True)
        self.frozen = (mean, torch.rsqrt(var + EPS))


class InstanceNorm(MomentRecorder):
    """``ops.instance_norm`` with its parameters (C,), activation and, in ``forward``, a residual."""

    def __init__(self, channels: int, activation: str | None = None, *, affine: bool = True) -> None:
        super().__init__()
        self.activation = activation
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """(N, C, H, W) to the same shape and dtype."""
        return self.normalize(x, self.weight, self.bias, residual)

    def normalize(self, x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None) -> Tensor:
        """``forward`` with parameters (C,) or (N, C) in place of the layer's own."""
        if self.recording:
            self.record(x)
        elif self.frozen is not None:
            return self._apply_frozen(x, weight, bias, residual)
        return ops.instance_norm(x, weight, bias, residual, activation=self.activation, eps=EPS)

    def _apply_frozen(self, x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None) -> Tensor:
        assert self.frozen is not None
        mean, scale = self.frozen
        if weight is not None and bias is not None:
            scale = scale * weight.view(-1, weight.shape[-1], 1, 1)
            shift = bias.view(-1, bias.shape[-1], 1, 1) - mean * scale
        else:
            shift = -mean * scale
        out = (at_least_float32(x) * scale + shift).to(x.dtype)
        if self.activation == "relu":
            out = F.relu(out)
        elif self.activation == "leaky_relu":
            out = F.leaky_relu(out, 0.2)
        return out if residual is None else out + residual


class Conv2d(nn.Conv2d):
    """A convolution by ``ops.conv2d``: padded by (kernel - 1) // 2, of an input that ``upsample`` first doubles."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        bias: bool = False,
        padding_mode: Literal["zeros", "reflect"] = "zeros",
        upsample: bool = False,
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, (kernel - 1) // 2, bias=bias, padding_mode=padding_mode)
        self.upsample = upsample

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, outputs, H', W')."""
        return ops.conv2d(
            x, self.weight, self.bias, stride=self.stride[0], padding=self.padding_mode, upsample=self.upsample
        )


def conv(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, bias: bool = False, upsample: bool = False
) -> Conv2d:
    """A reflection-padded convolution that keeps the size (divided by ``stride``, doubled by ``upsample``).

    It has no bias where a norm follows and would cancel it.
    """
    return Conv2d(inputs, outputs, kernel, stride=stride, bias=bias, padding_mode="reflect", upsample=upsample)


class ConvAct(nn.Conv2d):
    """Convolution and activation: by ``ops.conv2d`` where it has a kernel, else with bias and activation fused by
    ``ops.bias_act``."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        *,
        activation: str,
        device: torch.device | str | None = None,  # by name: nn.utils.skip_init looks for it
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding, device=device)
        self.activation = activation
        self._is_native = (
            (kernel, stride, padding) == (3, 1, 1) and inputs in (3, inputs // 16 * 16) and outputs % 16 == 0
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, outputs, H', W')."""
        if self._is_native and x.device.type == "cpu":
            return ops.conv2d(x, self.weight, self.bias, activation=self.activation)
        return ops.bias_act(self._conv_forward(x, self.weight.to(x.dtype), None), self.bias, activation=self.activation)


def copy_modules(network: nn.Module) -> nn.Module:
    """A copy of a network that shares its tensors: what is set on its modules stays with the copy."""
    tensors = (value for module in network.modules() for part in _parts(module) for value in part.values())
    return copy.deepcopy(network, {id(value): value for value in tensors if isinstance(value, Tensor)})


def _parts(module: nn.Module) -> tuple[dict[str, Any], ...]:
    return vars(module), vars(module)["_parameters"], vars(module)["_buffers"]


def pad_to_multiple(x: Tensor, stride: int) -> Tensor:
    """Pad (N, C, H, W) below and to the right to multiples of ``stride``, by reflection where it is large enough."""
    height, width = x.shape[-2:]
    bottom, right = -height % stride, -width % stride
    if not (bottom or right):
        return x
    mode = "reflect" if bottom < height and right < width else "replicate"
    return F.pad(x, (0, right, 0, bottom), mode=mode)


class _FullPrecision(nn.Module):
    """A parametrization run without autocast: in bfloat16 the power iteration would not converge."""

    def __init__(self, parametrization: nn.Module) -> None:
        super().__init__()
        self.parametrization = parametrization

    def forward(self, weight: Tensor) -> Tensor:
        with autocast(weight.device, torch.float32):
            return self.parametrization(weight)

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


def spectral_norm(network: nn.Module) -> None:
    """Divide the weight of every convolution and linear layer of ``network``, in place, by its spectral norm.

    Miyato et al. 2018 (SPEC S19): one power iteration each training forward, on the weight as a matrix of its output
    channels. The state dict gains the vectors of the iteration.
    """
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            parametrizations.spectral_norm(module)
            assert isinstance(module.parametrizations, nn.ModuleDict)
            steps = module.parametrizations["weight"]
            assert isinstance(steps, nn.ModuleList)
            steps[0] = _FullPrecision(steps[0])
