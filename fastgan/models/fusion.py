"""Many styles in one network: VGG-19 features of content and style fused, and a decoder behind (SPEC S5 to S7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastgan import ops
from fastgan.models.layers import EPS, HoldsMoments, InstanceNorm, conv, upsample_nearest, wide

FUSIONS = ("adain", "convex", "additive", "mlp")
FUSION_LAYERS = ("relu2_1", "relu3_1", "relu4_1", "relu5_1")
#: Cells a side of a style's code where its place matters: additive and convex.
CODE_SIDE = 32

Window = tuple[slice, slice, int, int]

_CHANNELS = {1: 64, 2: 128, 3: 256, 4: 512, 5: 512}
_CONVS = {1: 2, 2: 2, 3: 4, 4: 4}


class Fusion(HoldsMoments):
    """``ops.fuse``, or for ``mlp`` content + alpha * two fully connected layers at every position (SPEC S6).

    The layers see [normalised content, mean of the style, its standard deviation].
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
            nn.init.kaiming_normal_(self.to_change.weight, nonlinearity="linear")
            for layer in (self.from_content, self.to_change):
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, content: Tensor, style: Tensor, alpha: float | Tensor) -> Tensor:
        """content (N, C, H, W), style (N, C, h, w), alpha a number or (N,), all as ``ops.fuse`` takes them."""
        if self.mode == "mlp":
            return self._connected(content, style, alpha)
        if self.mode == "adain":
            if self.recording:
                self.record(content)
            elif self.frozen is not None:
                return self._adain_frozen(content, style, alpha)
        return ops.fuse(content, style, mode=self.mode, alpha=alpha)

    def _connected(self, content: Tensor, style: Tensor, alpha: float | Tensor) -> Tensor:
        mean, std = _moments(style)
        dtype = self.from_content.weight.dtype
        hidden = self.from_content(self.norm(content).to(dtype))
        hidden = hidden + self.from_style(torch.cat([mean, std], 1).to(dtype))
        return content + _per_image(alpha, content) * self.to_change(F.relu(hidden)).to(content.dtype)

    def _adain_frozen(self, content: Tensor, style: Tensor, alpha: float | Tensor) -> Tensor:
        assert self.frozen is not None
        mean, scale = self.frozen
        style_mean, std = _moments(style)
        a = _per_image(alpha, content)
        return ((1 - a) * content + a * ((content - mean) * scale * std + style_mean)).to(content.dtype)


class FusedMoments(HoldsMoments):
    """Mean and standard deviation of every channel of the fused features: what the decoder knows of the style."""

    def forward(self, fused: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 2C)."""
        if self.recording:
            self.record(fused)
        elif self.frozen is not None:
            mean, scale = self.frozen
            return torch.cat([mean, 1 / scale], 1).flatten(1)
        return torch.cat(_moments(fused), 1).flatten(1)


class StyledNorm(InstanceNorm):
    """Instance norm whose parameters a linear layer predicts from the fused moments, as Ghiasi et al. 2017 do from a
    style; at first a plain one."""

    def __init__(self, channels: int, moments: int, activation: str | None = None) -> None:
        super().__init__(channels, activation, affine=False)
        self.predict = nn.Linear(moments, 2 * channels)
        nn.init.zeros_(self.predict.weight)
        with torch.no_grad():
            self.predict.bias.copy_(torch.cat([torch.ones(channels), torch.zeros(channels)]))

    def styled(self, x: Tensor, moments: Tensor, residual: Tensor | None = None) -> Tensor:
        """x (N, C, H, W), moments (N, 2C of the fused features)."""
        weight, bias = self.predict(moments.to(self.predict.weight.dtype)).chunk(2, 1)
        return self.normalise(x, weight, bias, residual)


class FusionGenerator(nn.Module):
    """The trained part of a transformer of any style to any style: fusion and decoder, without the encoder.

    The features of ``layer``, fused and divided by ``scale``, go through a convolution, ``depth`` residual blocks and,
    for each block of VGG-19 below, nearest upsampling and a convolution. Each has an instance norm whose parameters are
    predicted from the moments of the fused features: that is where the style comes in, at every scale. The content's
    features of the blocks below come in by the side, instance-normalised: its structure without its style. (Without
    norms, 150 steps left a decoder that looked at these alone.)

    Args:
        width: the decoder's channels at full size; twice as many at each halving.
        depth: residual blocks.
        fusion: ``"adain"``, ``"convex"``, ``"additive"`` or ``"mlp"``.
        layer: where features are fused, ``"relu2_1"`` to ``"relu5_1"``.

    Attributes:
        layers: the encoder's layers that ``forward`` takes.
        stride: pixels a side of one cell of ``layer``.
        min_side: the smallest side of an image, in pixels.

    Raises:
        ValueError: an unknown fusion or layer; width or depth below 1.
    """

    scale: Tensor

    def __init__(self, width: int = 32, depth: int = 3, *, fusion: str = "adain", layer: str = "relu3_1") -> None:
        super().__init__()
        if fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {', '.join(map(repr, FUSIONS))}, got {fusion!r}")
        if layer not in FUSION_LAYERS:
            raise ValueError(f"layer must be one of {', '.join(map(repr, FUSION_LAYERS))}, got {layer!r}")
        if width < 1 or depth < 1:
            raise ValueError(f"width and depth must be at least 1, got {width} and {depth}")
        self.config: dict[str, Any] = {"width": width, "depth": depth, "fusion": fusion, "layer": layer}
        deepest = FUSION_LAYERS.index(layer) + 2
        self.layer = layer
        self.layers = tuple(f"relu{block}_1" for block in range(1, deepest + 1))
        self.stride = 2 ** (deepest - 1)
        self.min_side = 2 * self.stride  # reflection needs two cells
        self.channels = _CHANNELS[deepest]
        self.register_buffer("scale", torch.ones(()))
        self.fusion = Fusion(fusion, self.channels)
        outputs = width * self.stride
        moments = 2 * self.channels
        self.moments = FusedMoments()
        self.project = _Styled(self.channels, outputs, moments, "relu")
        self.blocks = nn.ModuleList(_Residual(outputs, moments) for _ in range(depth))
        self.norms = nn.ModuleList()
        self.ups = nn.ModuleList()
        for block in range(deepest - 1, 0, -1):
            self.norms.append(InstanceNorm(_CHANNELS[block], affine=False))
            self.ups.append(_Styled(outputs + _CHANNELS[block], outputs // 2, moments, "relu"))
            outputs //= 2
        self.to_rgb = conv(outputs, 3, 3, bias=True)

    @property
    def reach(self) -> int:
        """Pixels to each side of an output pixel that it depends on, through decoder and encoder, moments apart."""
        deepest = len(self.layers)
        farthest = 0
        for place in range(self.stride):
            low, high = place - 1, place + 1
            for _ in self.ups:
                low, high = (low - 1) // 2, (high + 1) // 2
            around = 1 + 2 * len(self.blocks) + 1  # the last one is the encoder's at this layer
            low, high = low - around, high + around
            for block in range(deepest - 1, 0, -1):
                low, high = 2 * low - _CONVS[block], 2 * high + 1 + _CONVS[block]
            farthest = max(farthest, place - low, high - place)
        return farthest

    @torch.no_grad()
    def calibrate(self, features: Mapping[str, Tensor]) -> None:
        """Set ``scale`` to the root mean square of the content's features at ``layer``, which span 1 to 500 by weights.

        For the first batch of a training, before anything is learnt; ``scale`` is saved with the network.
        """
        rms = wide(features[self.layer]).square().mean().sqrt()
        self.scale.copy_(torch.where(rms > 0, rms, torch.ones_like(rms)))

    def encode_style(self, features: Tensor) -> Tensor:
        """A style's code: a small map of features that stands for the style.

        Args:
            features: (N, C, h, w), the style's at ``layer``.

        Returns:
            float32. For adain and mlp (N, C, 1, 2) with the moments of ``features``: mean - std and mean + std. For
            additive and convex (N, C, 32, 32), ``features`` by area averaging.

        Raises:
            ValueError: features of another layer.
        """
        self._check_channels("features", features)
        features = features.float()
        if self.fusion.mode in ("additive", "convex"):
            return F.adaptive_avg_pool2d(features, CODE_SIDE)
        var, mean = torch.var_mean(features, dim=(2, 3), correction=0, keepdim=True)
        std = var.clamp_min(1e-12).sqrt()  # where a channel is dead the root has no gradient
        return torch.cat([mean - std, mean + std], 3)

    def forward(
        self,
        features: Mapping[str, Tensor],
        code: Tensor,
        strength: float | Tensor = 1.0,
        *,
        window: Window | None = None,
    ) -> Tensor:
        """The content in the style.

        Args:
            features: the content's, by name, of all of ``layers``, each (N, C, H / 2^k, W / 2^k).
            code: what ``encode_style`` gives, (N, ...) or (1, ...) for all images.
            strength: 0 is the content, 1 the full style; a number or (N,) for one an image.
            window: (rows, columns, height, width) in cells of ``layer``, where ``features`` are a part of a larger
                picture: which part, and the size of the whole.

        Returns:
            (N, 3, H, W) of relu1_1's H and W, in [-1, 1], float32 (float64 stays).

        Raises:
            ValueError: features missing or smaller than 2 cells a side; a code, strength or window that does not fit.
        """
        missing = [name for name in self.layers if name not in features]
        if missing:
            raise ValueError(f"features must have {', '.join(self.layers)}; missing: {', '.join(missing)}")
        fused = self.fuse(features[self.layer], code, strength, window)
        moments = self.moments(fused)
        h = self.project(fused.to(self.to_rgb.weight.dtype), moments)
        for block in self.blocks:
            h = block(h, moments)
        for layer, norm, name in zip(self.ups, self.norms, self.layers[-2::-1], strict=True):
            skip = features[name]
            h = _grow(upsample_nearest(h), skip.shape[-2:])
            h = layer(torch.cat([h, norm(skip).to(h.dtype)], 1), moments)
        return torch.tanh(wide(self.to_rgb(h)))

    def fuse(
        self, content: Tensor, code: Tensor, strength: float | Tensor = 1.0, window: Window | None = None
    ) -> Tensor:
        """Fused features over ``scale``: what the decoder starts from. Arguments as ``forward`` has them.

        Args:
            content: (N, C, h, w), the content's features at ``layer``.

        Returns:
            (N, C, h, w), float32 (float64 stays).
        """
        self._check_channels("content", content)
        self._check_channels("code", code)
        n, _, height, width = content.shape
        if min(height, width) < 2:
            raise ValueError(f"content must have at least 2 cells a side at {self.layer}, got {height} x {width}")
        if code.shape[0] not in (1, n):
            raise ValueError(f"code must be of 1 or {n} styles for these features, got {code.shape[0]}")
        if isinstance(strength, Tensor) and strength.shape != (n,):
            raise ValueError(f"strength must be a number or ({n},), got shape {tuple(strength.shape)}")
        content = wide(content)
        style = wide(code)
        mode = self.fusion.mode
        if mode in ("additive", "convex"):
            style = _place(style, (height, width), window)
        alpha = 1 - strength if mode == "convex" else strength
        return self.fusion(content / self.scale, style.expand(n, -1, -1, -1) / self.scale, alpha)

    def _check_channels(self, name: str, x: Tensor) -> None:
        if x.dim() != 4 or x.shape[1] != self.channels:
            raise ValueError(f"{name} must be (N, {self.channels}, h, w) of {self.layer}, got {tuple(x.shape)}")


class _Styled(nn.Module):
    """A convolution and its styled norm."""

    def __init__(self, inputs: int, outputs: int, moments: int, activation: str | None = None) -> None:
        super().__init__()
        self.conv = conv(inputs, outputs, 3)
        self.norm = StyledNorm(outputs, moments, activation)

    def forward(self, x: Tensor, moments: Tensor, residual: Tensor | None = None) -> Tensor:
        return self.norm.styled(self.conv(x), moments, residual)


class _Residual(nn.Module):
    def __init__(self, channels: int, moments: int) -> None:
        super().__init__()
        self.first = _Styled(channels, channels, moments, "relu")
        self.second = _Styled(channels, channels, moments)

    def forward(self, x: Tensor, moments: Tensor) -> Tensor:
        return self.second(self.first(x, moments), moments, residual=x)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each plane, (N, C, 1, 1)."""
    var, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
    return mean, torch.sqrt(var + EPS)


def _per_image(alpha: float | Tensor, x: Tensor) -> float | Tensor:
    return alpha.to(x.dtype).view(-1, 1, 1, 1) if isinstance(alpha, Tensor) else alpha


def _place(code: Tensor, grid: tuple[int, int], window: Window | None) -> Tensor:
    """The code resized to the content's cells, or to the whole picture's and cut."""
    if window is None:
        return F.interpolate(code, grid, mode="bilinear", align_corners=False)
    rows, columns, height, width = window
    part = F.interpolate(code, (height, width), mode="bilinear", align_corners=False)[..., rows, columns]
    if part.shape[-2:] != grid:
        raise ValueError(f"window must cut {grid[0]} x {grid[1]} cells, as the features have, got {window}")
    return part


def _grow(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """``x`` with its last row and column repeated where pooling had dropped one."""
    bottom, right = size[0] - x.shape[-2], size[1] - x.shape[-1]
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x
