"""The networks of the step in plain PyTorch, which the baselines ``eager`` and ``compiled`` run.

Parameters are in the order of fastgan's own networks, so that weights and gradients can be compared.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Convolutions of VGG-19 up to relu4_1: layer, input and output channels; a max-pool comes before each block.
_VGG = (
    ("relu1_1", 3, 64),
    ("relu1_2", 64, 64),
    ("relu2_1", 64, 128),
    ("relu2_2", 128, 128),
    ("relu3_1", 128, 256),
    ("relu3_2", 256, 256),
    ("relu3_3", 256, 256),
    ("relu3_4", 256, 256),
    ("relu4_1", 256, 512),
)


def _reflect_conv(inputs: int, outputs: int, kernel: int, stride: int = 1, *, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=bias, padding_mode="reflect")


def _conv_norm_relu(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        _reflect_conv(inputs, outputs, kernel, stride), nn.InstanceNorm2d(outputs, affine=True), nn.ReLU()
    )


class BaselineResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance norm, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _reflect_conv(channels, channels, 3)
        self.norm1 = nn.InstanceNorm2d(channels, affine=True)
        self.conv2 = _reflect_conv(channels, channels, 3)
        self.norm2 = nn.InstanceNorm2d(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        return x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))


class BaselineGenerator(nn.Module):
    """``FastGenerator(width, depth, stem=stem)``; with ``"conv9"`` Johnson et al. 2016 with instance norm."""

    def __init__(self, width: int = 32, depth: int = 5, stem: str = "conv9") -> None:
        super().__init__()
        half, quarter = 2 * width, 4 * width
        if stem == "conv9":
            last, kernel = width, 9
            down: list[nn.Module] = [_conv_norm_relu(3, width, 9), _conv_norm_relu(width, half, 3, 2)]
        else:
            last, kernel = width // 2, 5
            down = [nn.PixelUnshuffle(2), _conv_norm_relu(12, half, 3)]
        self.down = nn.Sequential(*down, _conv_norm_relu(half, quarter, 3, 2))
        self.blocks = nn.Sequential(*(BaselineResidualBlock(quarter) for _ in range(depth)))
        self.up1, self.up2 = _conv_norm_relu(quarter, half, 3), _conv_norm_relu(half, last, 3)
        self.to_rgb = _reflect_conv(last, 3, kernel, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1], H and W multiples of 4, to the same shape, float32."""
        h = self.blocks(self.down(x))
        h = self.up1(F.interpolate(h, scale_factor=2, mode="nearest"))
        h = self.up2(F.interpolate(h, scale_factor=2, mode="nearest"))
        return torch.tanh(self.to_rgb(h).float())


class BaselineDiscriminator(nn.Module):
    """PatchGAN (Isola et al. 2017) with three halvings: ``PatchGAN(width, 3)``."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for inputs, outputs, stride in ((width, 2 * width, 2), (2 * width, 4 * width, 2), (4 * width, 8 * width, 1)):
            layers += [nn.Conv2d(inputs, outputs, 4, stride, 1, bias=False), nn.InstanceNorm2d(outputs)]
            layers.append(nn.LeakyReLU(0.2))
        self.layers = nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] to (N, 1, H', W') logits, float32."""
        return self.layers(x).float()


class BaselineEncoder(nn.Module):
    """VGG-19 to relu4_1, frozen; ``scale`` and ``shift`` (1, 3, 1, 1) map [-1, 1] to the input range of the weights."""

    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(inputs, outputs, 3, padding=1) for _, inputs, outputs in _VGG)
        self.register_buffer("scale", torch.ones(1, 3, 1, 1))
        self.register_buffer("shift", torch.zeros(1, 3, 1, 1))
        self.requires_grad_(False)

    def forward(self, x: Tensor, last: str = "relu4_1") -> dict[str, Tensor]:
        """(N, 3, H, W) in [-1, 1] to the features of relu1_1, relu2_1, relu3_1 and relu4_1, as far as ``last``."""
        x = x * self.scale + self.shift
        features = {}
        for number, ((name, _, _), conv) in enumerate(zip(_VGG, self.convs, strict=True)):
            if number and name.endswith("_1"):
                x = F.max_pool2d(x, 2)
            x = F.relu(conv(x))
            if name.endswith("_1"):
                features[name] = x
            if name == last:
                break
        return features


@torch.no_grad()
def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy the parameters of ``source`` into ``target`` in order. Raises ValueError where shapes differ."""
    sources, targets = list(source.parameters()), list(target.parameters())
    if [p.shape for p in sources] != [p.shape for p in targets]:
        raise ValueError(f"{type(target).__name__} has other parameters than {type(source).__name__}")
    for target_parameter, source_parameter in zip(targets, sources, strict=True):
        target_parameter.copy_(source_parameter)
