"""Layers of the ``fusion`` generator: fusion of features, and norms predicted from their moments (SPEC S6, S7)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastgan import ops
from fastgan.models import wct
from fastgan.models.layers import EPS, InstanceNorm, MomentRecorder, at_least_float32, conv

#: Gain of the last mlp layer at initialization: with 1, 100 steps left strength 0 at SSIM 0.56.
_MLP_INIT_GAIN = 0.1

#: Smallest unit of a channel, as a share of the mean: for channels nearly dead in photographs. Units are scaled by 3,
#: which limits the sum of Adam's first steps over some 500 inputs to about 0.1.
_MIN_UNIT_RATIO, _UNIT_SCALE = 0.1, 3.0


class Fusion(MomentRecorder):
    """``ops.fuse``; for ``mlp`` content + alpha * two fully connected layers at every position (SPEC S6), which see
    [normalized content, mean of the style, its standard deviation]; for ``wct`` whitening and coloring.
    """

    def __init__(self, mode: str, channels: int) -> None:
        super().__init__()
        self.mode = mode
        if mode == "mlp":
            self.norm = InstanceNorm(channels, affine=False)
            # One layer of 3C inputs, split: the style's share is the same at every position.
            self.from_content = nn.Conv2d(channels, channels, 1)
            self.from_style = nn.Conv2d(2 * channels, channels, 1, bias=False)
            self.to_change = nn.Conv2d(channels, channels, 1)
            for layer in (self.from_content, self.from_style):
                nn.init.normal_(layer.weight, std=(2 / (3 * channels)) ** 0.5)
            nn.init.normal_(self.to_change.weight, std=_MLP_INIT_GAIN / channels**0.5)
            for layer in (self.from_content, self.to_change):
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, content: Tensor, style: Tensor, alpha: float | Tensor) -> Tensor:
        """content (N, C, H, W), style (N, C, h, w), alpha a number or (N,), all as ``ops.fuse`` takes them; for ``wct``
        the style is (N, C, 1, 1 + C or more): mean and square root of the covariance."""
        if self.mode == "wct":
            return self._fuse_wct(content, style, alpha)
        if self.mode == "mlp":
            return self._fuse_mlp(content, style, alpha)
        if self.mode == "adain":
            if self.recording:
                self.record(content)
            elif self.frozen is not None:
                return self._fuse_adain_frozen(content, style, alpha)
        return ops.fuse(content, style, mode=self.mode, alpha=alpha)

    def record(self, x: Tensor) -> None:
        """Store the moments of ``x`` (N, C, H, W) in ``frozen``: for ``wct`` mean and covariance."""
        if self.mode == "wct":
            self.frozen = wct.mean_and_covariance(at_least_float32(x))
        else:
            super().record(x)

    def _fuse_wct(self, content: Tensor, style: Tensor, alpha: float | Tensor) -> Tensor:
        if self.recording:
            self.record(content)
        mean, covariance = wct.mean_and_covariance(content) if self.frozen is None else self.frozen
        channels = content.shape[1]
        matrix = wct.transport_map(covariance, style[:, :, 0, 1 : 1 + channels])
        return wct.transform(content, mean, matrix, style[..., :1], alpha)

    def _fuse_mlp(self, content: Tensor, style: Tensor, alpha: float | Tensor) -> Tensor:
        mean, std = _moments(style)
        dtype = self.from_content.weight.dtype
        hidden = self.from_content(self.norm(content).to(dtype))
        hidden = hidden + self.from_style(torch.cat([mean, std], 1).to(dtype))
        return content + per_image(alpha, content) * self.to_change(F.relu(hidden)).to(content.dtype)

    def _fuse_adain_frozen(self, content: Tensor, style: Tensor, alpha: float | Tensor) -> Tensor:
        assert self.frozen is not None
        mean, scale = self.frozen
        style_mean, std = _moments(style)
        a = per_image(alpha, content)
        return ((1 - a) * content + a * ((content - mean) * scale * std + style_mean)).to(content.dtype)


class FusedFeatureStats(MomentRecorder):
    """Mean and standard deviation of each channel of the fused features, from which the decoder predicts its norms.

    They are standardized by ``centre`` and ``unit`` of photographs: all pictures have large moments in the same
    channels, which would hide the differences between styles.
    """

    centre: Tensor
    unit: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(2 * channels))
        self.register_buffer("unit", torch.ones(2 * channels))

    @torch.no_grad()
    def calibrate(self, features: Tensor) -> None:
        """Set ``centre`` and ``unit`` from features (N, C, H, W) of photographs."""
        moments = torch.cat(_moments(features), 1).flatten(1)
        size = moments.abs().mean(0)
        self.centre.copy_(moments.mean(0))
        self.unit.copy_(size.clamp_min(_MIN_UNIT_RATIO * size.mean().item()).clamp_min(1e-6) * _UNIT_SCALE)

    def forward(self, fused: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 2C)."""
        if self.recording:
            self.record(fused)
        if self.frozen is not None and not self.recording:
            mean, scale = self.frozen
            moments = torch.cat([mean, 1 / scale], 1).flatten(1)
        else:
            moments = torch.cat(_moments(fused), 1).flatten(1)
        return (moments - self.centre) / self.unit


class ConditionalInstanceNorm(InstanceNorm):
    """Instance norm with parameters predicted from the fused moments by a linear layer (Ghiasi et al. 2017 predict them
    from a style); initialized to plain instance norm."""

    def __init__(self, channels: int, moments: int, activation: str | None = None) -> None:
        super().__init__(channels, activation, affine=False)
        self.predict = nn.Linear(moments, 2 * channels)
        nn.init.zeros_(self.predict.weight)
        with torch.no_grad():
            self.predict.bias.copy_(torch.cat([torch.ones(channels), torch.zeros(channels)]))

    def styled(self, x: Tensor, moments: Tensor, residual: Tensor | None = None) -> Tensor:
        """x (N, C, H, W), moments (N, 2C of the fused features)."""
        weight, bias = self.predict(moments.to(self.predict.weight.dtype)).chunk(2, 1)
        return self.normalize(x, weight, bias, residual)


class StyledConv(nn.Module):
    """A convolution followed by conditional instance norm."""

    def __init__(self, inputs: int, outputs: int, moments: int, activation: str | None = None) -> None:
        super().__init__()
        self.conv = conv(inputs, outputs, 3)
        self.norm = ConditionalInstanceNorm(outputs, moments, activation)

    def forward(self, x: Tensor, moments: Tensor, residual: Tensor | None = None) -> Tensor:
        return self.norm.styled(self.conv(x), moments, residual)


class StyledResidualBlock(nn.Module):
    """Two ``StyledConv`` and a skip connection."""

    def __init__(self, channels: int, moments: int) -> None:
        super().__init__()
        self.first = StyledConv(channels, channels, moments, "relu")
        self.second = StyledConv(channels, channels, moments)

    def forward(self, x: Tensor, moments: Tensor) -> Tensor:
        return self.second(self.first(x, moments), moments, residual=x)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each plane, (N, C, 1, 1)."""
    var, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
    return mean, torch.sqrt(var + EPS)


def per_image(alpha: float | Tensor, x: Tensor) -> float | Tensor:
    """A number, or one an image (N,), as it multiplies images (N, C, H, W)."""
    return alpha.to(x.dtype).view(-1, 1, 1, 1) if isinstance(alpha, Tensor) else alpha
