"""Images from noise (SPEC S1), after DCGAN (Radford et al. 2016)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fastgan.models.layers import Conv2d, InstanceNorm, at_least_float32
from fastgan.models.registry import DiscriminatorSpec, GeneratorSpec, register_discriminator, register_generator

SIZES = tuple(2**power for power in range(3, 11))
NORMS = ("batch", "instance", "none")


class DCGANGenerator(nn.Module):
    """Noise to 4x4, then for each doubling nearest upsampling, 3x3 convolutions, batch norm and ReLU; tanh at the end.

    The paper's transposed convolutions leave a grid in the image that short trainings do not get rid of (Odena et al.
    2016). The last hidden resolution has ``width`` channels, each lower one twice as many, 8 times at most.

    Args:
        width: channels at half the size.
        depth: convolutions at each resolution between 4x4 and ``size``.
        size: the side of the images, a power of two from 8 to 1024.
        z_dim: numbers of noise an image.

    Raises:
        ValueError: another size; width, depth or z_dim below 1.
    """

    def __init__(self, width: int = 64, depth: int = 1, *, size: int = 64, z_dim: int = 100) -> None:
        super().__init__()
        _check(width, depth, size)
        if z_dim < 1:
            raise ValueError(f"z_dim must be at least 1, got {z_dim}")
        self.config = {"width": width, "depth": depth, "size": size, "z_dim": z_dim}
        self.size = size
        self.z_dim = z_dim
        top, *widths = _widths(width, size)
        self.project = nn.Linear(z_dim, top * 16, bias=False)
        self.head = nn.Sequential(nn.BatchNorm2d(top), nn.ReLU())
        self.stages = nn.Sequential()
        inputs = top
        for outputs in widths:
            layers: list[nn.Module] = []
            for number, source in enumerate((inputs, *[outputs] * (depth - 1))):
                layers += [Conv2d(source, outputs, 3, upsample=number == 0), nn.BatchNorm2d(outputs), nn.ReLU()]
            self.stages.append(nn.Sequential(*layers))
            inputs = outputs
        self.to_rgb = Conv2d(inputs, 3, 3, bias=True, upsample=True)
        _init(self)

    def forward(self, z: Tensor) -> Tensor:
        """(N, z_dim) of N(0, 1) -> (N, 3, size, size) in [-1, 1], float32 (float64 stays).

        Raises:
            ValueError: another shape.
        """
        if z.dim() != 2 or z.shape[1] != self.z_dim:
            raise ValueError(f"z must be (N, {self.z_dim}), got {tuple(z.shape)}")
        h = self.head(self.project(z).unflatten(1, (-1, 4, 4)).contiguous(memory_format=torch.channels_last))
        for stage in self.stages:
            h = stage(h)
        return torch.tanh(at_least_float32(self.to_rgb(h)))


class DCGANDiscriminator(nn.Module):
    """The generator's mirror: 4x4 convolutions of stride 2 down to 4x4, LeakyReLU 0.2, and one logit an image.

    Args:
        width: channels at half the size.
        depth: layers at each resolution: the one of stride 2 and ``depth - 1`` of 3x3.
        size: the side of the images, a power of two from 8 to 1024.
        norm: after all but the first and last: ``"batch"`` (of each batch, in training and after), ``"instance"``
            (without parameters) or ``"none"``.

    Raises:
        ValueError: another size or norm; width or depth below 1.
    """

    def __init__(self, width: int = 64, depth: int = 1, *, size: int = 64, norm: str = "batch") -> None:
        super().__init__()
        _check(width, depth, size)
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {', '.join(map(repr, NORMS))}, got {norm!r}")
        self.config: dict[str, Any] = {"width": width, "depth": depth, "size": size, "norm": norm}
        self.min_side = self.max_side = size
        self.stages = nn.Sequential()
        inputs = 3
        for outputs in reversed(_widths(width, size)):
            down_norm = "none" if inputs == 3 else norm
            layers = _down_layer(Conv2d(inputs, outputs, 4, stride=2, bias=down_norm == "none"), down_norm)
            for _ in range(depth - 1):
                layers += _down_layer(Conv2d(outputs, outputs, 3, bias=norm == "none"), norm)
            self.stages.append(nn.Sequential(*layers))
            inputs = outputs
        self.to_logit = nn.Conv2d(inputs, 1, 4)
        _init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, size, size) in [-1, 1] -> (N, 1) logits, float32 (float64 stays).

        Raises:
            ValueError: another size.
        """
        if x.shape[-2:] != (self.min_side, self.min_side):
            raise ValueError(f"images must be {self.min_side} x {self.min_side}, got {x.shape[-2]} x {x.shape[-1]}")
        return at_least_float32(self.to_logit(self.stages(x))).flatten(1)


def _check(width: int, depth: int, size: int) -> None:
    if width < 1 or depth < 1:
        raise ValueError(f"width and depth must be at least 1, got {width} and {depth}")
    if size not in SIZES:
        raise ValueError(f"size must be one of {', '.join(map(str, SIZES))}, got {size}")


def _widths(width: int, size: int) -> list[int]:
    """Channels at 4, 8, ... size / 2."""
    return [min(8 * width, width * size // (2 * side)) for side in (4, *SIZES) if side < size]


def _down_layer(convolution: nn.Conv2d, norm: str) -> list[nn.Module]:
    channels = convolution.out_channels
    if norm == "instance":
        return [convolution, InstanceNorm(channels, "leaky_relu", affine=False)]
    if norm == "batch":
        return [convolution, nn.BatchNorm2d(channels, track_running_stats=False), nn.LeakyReLU(0.2)]
    return [convolution, nn.LeakyReLU(0.2)]


def _init(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0 if isinstance(module, nn.BatchNorm2d) else 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


register_discriminator(
    DiscriminatorSpec(
        "dcgan",
        DCGANDiscriminator,
        options={"size": "data.size", "norm": "model.discriminator.norm"},
        default_norm="batch",
    )
)
register_generator(
    GeneratorSpec(
        "dcgan",
        DCGANGenerator,
        options={"size": "data.size", "z_dim": "model.generator.z_dim"},
        preset={
            "model": {
                "generator": {"width": 64, "depth": 1, "z_dim": 100},
                "discriminator": {"name": "dcgan", "width": 64, "depth": 1},
            },
            # No short side: nearly whole photographs, whatever their size.
            "data": {"style": None, "size": 64, "batch": 32, "short_side": None},
            # Hundreds of photographs are few: without augmentation D memorizes them within some hundred steps.
            "loss": {
                "adversarial": 1.0,
                "content": 0.0,
                "style": 0.0,
                "style_window_weight": 0.0,
                "luminance": 0.0,
                "ssim": 0.0,
                "augment": ["color", "translation", "cutout"],
            },
            "optim": {
                "generator": {"lr": 4e-4, "beta1": 0.5, "beta2": 0.999},
                "discriminator": {"lr": 4e-4, "beta1": 0.5, "beta2": 0.999},
                "ema": 0.99,
            },
            "eval": {"every": 200},
            "log": {"samples_every": 500},
        },
        takes="noise",
        has_batch_norm=True,
    )
)
