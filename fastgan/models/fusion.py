"""The ``fusion`` generator for arbitrary styles: fused VGG-19 features and a decoder (SPEC S5 to S7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastgan.models import wct
from fastgan.models.fusion_layers import FusedFeatureStats, Fusion, StyledConv, StyledResidualBlock, per_image
from fastgan.models.layers import InstanceNorm, at_least_float32, conv
from fastgan.models.registry import GeneratorSpec, register_generator
from fastgan.ops.conv2d.reference import upsample_nearest

FUSIONS = ("adain", "convex", "additive", "mlp", "wct")
FUSION_LAYERS = ("relu2_1", "relu3_1", "relu4_1", "relu5_1")
#: Cells a side of a style code in the modes that depend on position: additive and convex.
CODE_SIDE = 32

Window = tuple[slice, slice, int, int]

_CHANNELS = {1: 64, 2: 128, 3: 256, 4: 512, 5: 512}
_CONVS = {1: 2, 2: 2, 3: 4, 4: 4}


class FusionGenerator(nn.Module):
    """Arbitrary-style generator: fusion and decoder, the trained part behind a frozen encoder.

    Features are fused twice, at ``layer`` and at relu1_1, and divided by ``scale`` and ``surface_scale``. The deep ones
    go through a convolution, ``depth`` residual blocks and, for each block of VGG-19 below, nearest upsampling and a
    convolution. Each has an instance norm whose parameters are predicted from the fused moments and the strength. The
    content's features of the blocks below come in by the side, instance-normalized: its structure without its style.
    The last convolution takes the fused relu1_1 too, as it is: that is all but linear in the pixels, so that colors
    are right from the first hundred steps on. (Without it and with no norms, 150 steps left a decoder blind to the
    style.)

    ``wct`` fuses the layers between as well and takes fused features in by the side: the covariances of the style that
    its Gram matrices have, which means and deviations do not tell for a style that was never trained on. The fused
    relu1_1 loses its detail as the strength grows: with it a photograph would be recolored and not painted.

    Args:
        width: the decoder's channels at full size; twice as many at each halving.
        depth: residual blocks.
        fusion: ``"adain"``, ``"convex"``, ``"additive"``, ``"mlp"`` or ``"wct"``.
        layer: where features are fused, ``"relu2_1"`` to ``"relu5_1"``.

    Attributes:
        layers: the encoder's layers that ``forward`` takes.
        fused_layers: those of them that are fused, the deepest first.
        stride: pixels a side of one cell of ``layer``.
        min_side: the smallest side of an image, in pixels.

    Raises:
        ValueError: an unknown fusion or layer; width or depth below 1.
    """

    scale: Tensor
    surface_scale: Tensor
    between_scales: Tensor

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
        between = {f"relu{block}_1": _CHANNELS[block] for block in range(2, deepest)} if fusion == "wct" else {}
        self._fused = {layer: self.channels, "relu1_1": _CHANNELS[1], **between}
        self.fused_layers = tuple(self._fused)
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("surface_scale", torch.ones(()))
        self.fusion = Fusion(fusion, self.channels)
        self.surface = Fusion(fusion, _CHANNELS[1])
        if fusion == "wct":
            self.register_buffer("between_scales", torch.ones(len(between)))
            self.between = nn.ModuleList(Fusion(fusion, channels) for channels in between.values())
        outputs = width * self.stride
        moments = 2 * self.channels + 1
        self.moments = FusedFeatureStats(self.channels)
        self.project = StyledConv(self.channels, outputs, moments, "relu")
        self.blocks = nn.ModuleList(StyledResidualBlock(outputs, moments) for _ in range(depth))
        self.norms = nn.ModuleList()
        self.ups = nn.ModuleList()
        for block in range(deepest - 1, 0, -1):
            if fusion != "wct":
                self.norms.append(InstanceNorm(_CHANNELS[block], affine=False))
            self.ups.append(StyledConv(outputs + _CHANNELS[block], outputs // 2, moments, "relu"))
            outputs //= 2
        self.to_rgb = conv(outputs + _CHANNELS[1], 3, 3, bias=True)

    @property
    def receptive_radius(self) -> int:
        """Largest distance, in pixels, of an input pixel that an output pixel depends on, except through moments."""
        deepest = len(self.layers)
        farthest = 0
        for offset in range(self.stride):
            low, high = offset - 1, offset + 1
            for _ in self.ups:
                low, high = (low - 1) // 2, (high + 1) // 2
            around = 1 + 2 * len(self.blocks) + 1  # the last one is the encoder's at this layer
            low, high = low - around, high + around
            for block in range(deepest - 1, 0, -1):
                low, high = 2 * low - _CONVS[block], 2 * high + 1 + _CONVS[block]
            farthest = max(farthest, offset - low, high - offset)
        return farthest

    @torch.no_grad()
    def calibrate(self, features: Mapping[str, Tensor]) -> None:
        """Set the scales to the root mean squares of the content's features, which span 1 to 500 by weights, and what
        the moments of the deep ones are compared with.

        For the first batch of a training, before anything is learned; all are saved with the network.
        """
        for name, (_, scale) in self._fusions().items():
            rms = at_least_float32(features[name]).square().mean().sqrt()
            scale.copy_(torch.where(rms > 0, rms, torch.ones_like(rms)))
        self.moments.calibrate(at_least_float32(features[self.layer]) / self.scale)

    def encode_style(self, features: Mapping[str, Tensor]) -> Tensor:
        """A style's code: small maps of features that stand for the style.

        Args:
            features: the style's, by name, (N, C, h, w) of all of ``fused_layers``.

        Returns:
            float32, the channels of those layers one after another. For adain and mlp (N, C + 64, 1, 2) with the
            moments of ``features``: mean - std and mean + std. For additive and convex (N, C + 64, 32, 32),
            ``features`` by area averaging. For wct (N, 64 + ... + C, 1, 1 + C): each channel's mean and its row of the
            square root of the layer's covariance, filled with zeros.

        Raises:
            ValueError: a layer is missing, or has the channels of another.
        """
        codes = []
        for name, channels in self._fused.items():
            part = _checked(features, name, channels).float()
            if self.fusion.mode in ("additive", "convex"):
                codes.append(F.adaptive_avg_pool2d(part, CODE_SIDE))
            elif self.fusion.mode == "wct":
                mean, covariance = wct.mean_and_covariance(part)
                row = torch.cat([mean[..., 0], wct.covariance_root(covariance)], 2)
                codes.append(F.pad(row, (0, max(self._fused.values()) - channels))[:, :, None])
            else:
                var, mean = torch.var_mean(part, dim=(2, 3), correction=0, keepdim=True)
                std = var.clamp_min(1e-12).sqrt()  # where a channel is dead the root has no gradient
                codes.append(torch.cat([mean - std, mean + std], 3))
        return torch.cat(codes, 1)

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
            window: (rows, columns, height, width) in pixels, where ``features`` are of a part of a larger picture:
                which part, and the size of the whole. A part begins, and ends unless the picture does, at a multiple of
                ``stride``.

        Returns:
            (N, 3, H, W) of relu1_1's H and W, in [-1, 1], float32 (float64 stays).

        Raises:
            ValueError: features missing or smaller than 2 cells a side; a code, strength or window that does not fit.
        """
        missing = [name for name in self.layers if name not in features]
        if missing:
            raise ValueError(f"features must have {', '.join(self.layers)}; missing: {', '.join(missing)}")
        fused, surface, *between = self.fuse(features, code, strength, window)
        if self.fusion.mode == "additive":
            # A sum grows with strength: normalize it, so that the decoder reads features of the scale of a photograph.
            fused, surface = (x / per_image(1 + strength, x) for x in (fused, surface))
        # Add the strength: if a photograph and a style have equal moments, the moments do not determine it.
        n = fused.shape[0]
        strengths = torch.as_tensor(strength, dtype=fused.dtype, device=fused.device).expand(n)
        moments = torch.cat([self.moments(fused).expand(n, -1), strengths[:, None]], 1)
        dtype = self.to_rgb.weight.dtype
        if self.fusion.mode == "wct":
            surface = torch.lerp(surface, _average_cells(surface, self.stride), strengths[:, None, None, None])
        h = self.project(fused.to(dtype), moments)
        for block in self.blocks:
            h = block(h, moments)
        if self.fusion.mode == "wct":
            skips = [*between[::-1], surface]
        else:
            skips = [norm(features[name]) for norm, name in zip(self.norms, self.layers[-2::-1], strict=True)]
        for layer, skip in zip(self.ups, skips, strict=True):
            h = _pad_to(upsample_nearest(h), skip.shape[-2:])
            h = layer(torch.cat([h, skip.to(h.dtype)], 1), moments)
        return torch.tanh(at_least_float32(self.to_rgb(torch.cat([h, surface.to(h.dtype)], 1))))

    def fuse(
        self,
        features: Mapping[str, Tensor],
        code: Tensor,
        strength: float | Tensor = 1.0,
        window: Window | None = None,
    ) -> tuple[Tensor, ...]:
        """Fused features of ``layer``, of relu1_1 and for wct of those between, each over its scale. Arguments as
        ``forward`` has them.

        Returns:
            (N, C, h, w), (N, 64, H, W) and so on, float32 (float64 stays).
        """
        content = {name: _checked(features, name, channels) for name, channels in self._fused.items()}
        n, _, height, width = content[self.layer].shape
        if min(height, width) < 2:
            raise ValueError(f"features must have at least 2 cells a side at {self.layer}, got {height} x {width}")
        channels = sum(self._fused.values())
        if code.dim() != 4 or code.shape[1] != channels or code.shape[0] not in (1, n):
            raise ValueError(f"code must be ({n} or 1, {channels}, h, w) for these features, got {tuple(code.shape)}")
        if isinstance(strength, Tensor) and strength.shape != (n,):
            raise ValueError(f"strength must be a number or ({n},), got shape {tuple(strength.shape)}")
        mode = self.fusion.mode
        alpha = 1 - strength if mode == "convex" else strength
        parts = at_least_float32(code).split(list(self._fused.values()), 1)
        fused = []
        for (name, (fusion, scale)), style_part in zip(self._fusions().items(), parts, strict=True):
            part = content[name]
            if mode in ("additive", "convex"):
                stride = 1 if name == "relu1_1" else self.stride
                style_part = _resize_code(style_part, part.shape[-2:], window, stride)
            fused.append(fusion(at_least_float32(part) / scale, style_part.expand(n, -1, -1, -1) / scale, alpha))
        return tuple(fused)

    def _fusions(self) -> dict[str, tuple[Fusion, Tensor]]:
        """The fusion of each layer, and the scale of its features."""
        pairs = [(self.fusion, self.scale), (self.surface, self.surface_scale)]
        if self.fusion.mode == "wct":
            pairs += zip(self.between, self.between_scales, strict=True)  # type: ignore[arg-type]
        return dict(zip(self._fused, pairs, strict=True))


def _checked(features: Mapping[str, Tensor], name: str, channels: int) -> Tensor:
    x = features.get(name)
    if x is None or x.dim() != 4 or x.shape[1] != channels:
        got = "nothing" if x is None else str(tuple(x.shape))
        raise ValueError(f"features of {name} must be (N, {channels}, h, w), got {got}")
    return x


def _resize_code(code: Tensor, grid: tuple[int, ...], window: Window | None, stride: int) -> Tensor:
    """Resize the code to the cells of the content, or to those of the whole picture and cut the window."""
    if window is None:
        return F.interpolate(code, grid, mode="bilinear", align_corners=False)
    rows, columns, height, width = window
    full = F.interpolate(code, (height // stride, width // stride), mode="bilinear", align_corners=False)
    part = full[..., _to_feature_slice(rows, stride), _to_feature_slice(columns, stride)]
    if part.shape[-2:] != grid:
        raise ValueError(f"window must cut {grid[0]} x {grid[1]} cells, as the features have, got {window}")
    return part


def _average_cells(x: Tensor, stride: int) -> Tensor:
    """Average ``x`` over cells of ``stride`` pixels, enlarged to its size again."""
    height, width = x.shape[-2:]
    cells = F.avg_pool2d(x, stride, ceil_mode=True)
    return F.interpolate(cells, scale_factor=stride, mode="bilinear", align_corners=False)[..., :height, :width]


def _to_feature_slice(pixels: slice, stride: int) -> slice:
    return slice(pixels.start // stride, pixels.stop // stride)


def _pad_to(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Pad ``x`` by its last row and column where pooling had dropped one."""
    bottom, right = size[0] - x.shape[-2], size[1] - x.shape[-1]
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x


register_generator(
    GeneratorSpec(
        "fusion",
        FusionGenerator,
        options={"fusion": "model.fusion", "layer": "model.generator.layer"},
        preset={
            "model": {
                "fusion": "adain",
                "generator": {"depth": 3, "layer": "relu3_1"},
                "discriminator": {"depth": 3},
            },
        },
        arbitrary_style=True,
    )
)
