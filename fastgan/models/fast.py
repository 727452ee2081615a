"""The ``fast`` generator: single-style, one forward pass (SPEC S7)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastgan.models.layers import InstanceNorm, at_least_float32, conv, pad_to_multiple
from fastgan.models.registry import GeneratorSpec, register_generator

#: Total stride of the network; other sizes are padded to multiples.
STRIDE = 4


class ResidualBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), reflection-padded (Johnson et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels, 3)
        self.norm1 = InstanceNorm(channels, "relu")
        self.conv2 = conv(channels, channels, 3)
        self.norm2 = InstanceNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        return self.norm2(self.conv2(self.norm1(self.conv1(x))), residual=x)


class FastGenerator(nn.Module):
    """Image to image, fully convolutional; after Johnson et al. 2016 with Ulyanov's instance norm.

    Two halvings, ``depth`` residual blocks at a quarter of the size, two (nearest upsample, 3x3 convolution), so that
    there is no checkerboard. ``stem="unshuffle"`` folds 2x2 pixels into channels first, so that nothing but the last
    two convolutions works at full size; ``stem="conv9"`` is the published network with 9x9 convolutions at both ends.

    Args:
        width: channels at full size; twice at half, four times at a quarter.
        depth: residual blocks.
        stem: ``"unshuffle"`` or ``"conv9"``.

    Raises:
        ValueError: an unknown stem; a width or depth below 1.
    """

    def __init__(self, width: int = 32, depth: int = 5, *, stem: str = "unshuffle") -> None:
        super().__init__()
        if stem not in ("unshuffle", "conv9"):
            raise ValueError(f"stem must be 'unshuffle' or 'conv9', got {stem!r}")
        if width < 2 or depth < 1:
            raise ValueError(f"width must be at least 2 and depth at least 1, got {width} and {depth}")
        self.config = {"width": width, "depth": depth, "stem": stem}
        self.stride = STRIDE
        half, quarter = 2 * width, 4 * width
        if stem == "unshuffle":
            last, kernel = width // 2, 5
            down = [(12, half, 3, 1), (half, quarter, 3, 2)]
        else:
            last, kernel = width, 9
            down = [(3, width, 9, 1), (width, half, 3, 2), (half, quarter, 3, 2)]
        self.unshuffle = 2 if stem == "unshuffle" else 1
        self.down = nn.ModuleList()
        for inputs, outputs, size, stride in down:
            self.down.append(nn.Sequential(conv(inputs, outputs, size, stride=stride), InstanceNorm(outputs, "relu")))
        self.blocks = nn.ModuleList(ResidualBlock(quarter) for _ in range(depth))
        self.up = nn.ModuleList()
        for inputs, outputs in ((quarter, half), (half, last)):
            self.up.append(nn.Sequential(conv(inputs, outputs, 3, upsample=True), InstanceNorm(outputs, "relu")))
        self.to_rgb = conv(last, 3, kernel, bias=True)

    @property
    def receptive_radius(self) -> int:
        """Largest distance, in pixels, of an input pixel that an output pixel depends on, except through norms."""
        stem = 2 + 2 if self.unshuffle == 2 else 4 + 1 + 2
        return stem + 8 * len(self.blocks) + 2 + 4 + self.to_rgb.kernel_size[0] // 2

    def forward(self, x: Tensor) -> Tensor:
        """Stylize.

        Args:
            x: (N, 3, H, W) in [-1, 1], H and W at least 8. Sizes that are no multiple of 4 are padded by reflection and
                cropped again.

        Returns:
            (N, 3, H, W) in [-1, 1], float32 (float64 of a float64 network).
        """
        height, width = x.shape[-2:]
        h = pad_to_multiple(x, STRIDE)
        if self.unshuffle > 1:
            h = F.pixel_unshuffle(h, self.unshuffle)
            if x.is_contiguous(memory_format=torch.channels_last):
                h = h.contiguous(memory_format=torch.channels_last)
        for stage in self.down:
            h = stage(h)
        for block in self.blocks:
            h = block(h)
        for stage in self.up:
            h = stage(h)
        return torch.tanh(at_least_float32(self.to_rgb(h)))[..., :height, :width]


register_generator(GeneratorSpec("fast", FastGenerator, options={"stem": "model.generator.stem"}), default=True)
