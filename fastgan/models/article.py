"""The literal networks of the article's section 5.2 (SPEC S11), with the semantics of Keras."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastgan.models.layers import ConvAct, at_least_float32, pad_to_multiple
from fastgan.models.registry import DiscriminatorSpec, GeneratorSpec, register_discriminator, register_generator


class ArticleGenerator(nn.Module):
    """The image reduced 4x, ``depth`` 3x3 convolutions, then twice a transposed 3x3 of stride 2 and a convolution.

    ReLU after all but the last, which has tanh; zero padding. The article feeds it noise of another shape than it
    takes; here it gets the content reduced by area averaging, so that it gives the size that goes in.

    Args:
        width: channels of every layer but the last.
        depth: convolutions at a quarter of the size.

    Raises:
        ValueError: width or depth below 1.
    """

    stride = 4

    def __init__(self, width: int = 64, depth: int = 2) -> None:
        super().__init__()
        if width < 1 or depth < 1:
            raise ValueError(f"width and depth must be at least 1, got {width} and {depth}")
        self.config = {"width": width, "depth": depth}
        self.down = nn.ModuleList(
            ConvAct(width if index else 3, width, 3, padding=1, activation="relu") for index in range(depth)
        )
        self.up1 = nn.ConvTranspose2d(width, width, 3, stride=2)
        self.middle = ConvAct(width, width, 3, padding=1, activation="relu")
        self.up2 = nn.ConvTranspose2d(width, width, 3, stride=2)
        self.to_rgb = nn.Conv2d(width, 3, 3, padding=1)
        _init_as_keras(self)

    @property
    def receptive_radius(self) -> int:
        """Largest distance, in pixels, of an input pixel that an output pixel depends on."""
        # To the left, where it is most: 1 of to_rgb, 2 of up2, 2 of middle, 4 of up1, 4 of each at a quarter.
        return 9 + self.stride * len(self.down)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] to the same, float32 (float64 stays).

        Sizes that are no multiple of 4 are padded by reflection (the edge repeated under 4 px) and cropped again.
        """
        height, width = x.shape[-2:]
        h = F.avg_pool2d(pad_to_multiple(x, self.stride), self.stride)
        for layer in self.down:
            h = layer(h)
        h = F.relu(_same(self.up1(h)))
        h = self.middle(h)
        h = F.relu(_same(self.up2(h)))
        return torch.tanh(at_least_float32(self.to_rgb(h)))[..., :height, :width]


class ArticleDiscriminator(nn.Module):
    """``depth`` pairs of 3x3 convolutions, the second of stride 2, ReLU; flattened to one logit an image.

    The article's sigmoid is part of the loss, which takes logits.

    Args:
        width: channels of the first pair; each further has twice as many.
        depth: pairs.
        size: the side of the images.

    Raises:
        ValueError: width or depth below 1, or a size that 2^depth does not divide.
    """

    def __init__(self, width: int = 32, depth: int = 2, *, size: int = 256) -> None:
        super().__init__()
        if width < 1 or depth < 1:
            raise ValueError(f"width and depth must be at least 1, got {width} and {depth}")
        if size < 1 or size % 2**depth:
            raise ValueError(f"size must be a multiple of {2**depth} at depth {depth}, got {size}")
        self.config = {"width": width, "depth": depth, "size": size}
        self.min_side = self.max_side = size
        layers: list[nn.Module] = []
        inputs = 3
        for outputs in (width * 2**index for index in range(depth)):
            layers.append(ConvAct(inputs, outputs, 3, padding=1, activation="relu"))
            # So 'same' pads for stride 2 on even sizes.
            layers += [nn.ZeroPad2d((0, 1, 0, 1)), ConvAct(outputs, outputs, 3, stride=2, activation="relu")]
            inputs = outputs
        self.convs = nn.Sequential(*layers)
        self.to_logit = nn.Linear(inputs * (size // 2**depth) ** 2, 1)
        _init_as_keras(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, size, size) in [-1, 1] -> (N, 1) logits, float32 (float64 stays).

        Raises:
            ValueError: another size.
        """
        if x.shape[-2:] != (self.min_side, self.min_side):
            raise ValueError(f"images must be {self.min_side} x {self.min_side}, got {x.shape[-2]} x {x.shape[-1]}")
        return at_least_float32(self.to_logit(self.convs(x).flatten(1)))


def _same(x: Tensor) -> Tensor:
    """Crop a transposed convolution's full output, 2n + 1 a side, as Keras does for padding="same"."""
    return x[..., :-1, :-1]


def _init_as_keras(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]


register_discriminator(DiscriminatorSpec("article", ArticleDiscriminator, options={"size": "data.size"}))
register_generator(
    GeneratorSpec(
        "article",
        ArticleGenerator,
        preset={
            "model": {
                "generator": {"width": 64, "depth": 2},
                "discriminator": {"name": "article", "width": 32, "depth": 2},
            },
            "loss": {"adversarial": 0.1},
        },
    )
)
