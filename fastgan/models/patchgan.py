"""The PatchGAN discriminator (Isola et al. 2017): is each patch a piece of the real style?"""

from __future__ import annotations

from torch import Tensor, nn

from fastgan.models.layers import Conv2d, ConvAct, InstanceNorm, at_least_float32
from fastgan.models.registry import DiscriminatorSpec, register_discriminator


class PatchGAN(nn.Module):
    """4x4 convolutions of ``width``, 2x, 4x (stride 2) and 8x (stride 1) channels, then 1 logit a patch.

    Instance norm without parameters after all but the first and last, LeakyReLU 0.2. With three ``layers`` each
    logit sees 70x70 pixels.

    Raises:
        ValueError: width or layers below 1.
    """

    max_side: int | None = None

    def __init__(self, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        if width < 1 or layers < 1:
            raise ValueError(f"width and layers must be at least 1, got {width} and {layers}")
        self.config = {"width": width, "layers": layers}
        widths = [width * min(2**index, 8) for index in range(layers + 1)]
        self.convs = nn.ModuleList()
        self.norms = nn.ModuleList()  # of all but the first
        for index, (inputs, outputs) in enumerate(zip([3, *widths], widths, strict=False)):
            stride = 2 if index < layers else 1
            if index == 0:
                self.convs.append(ConvAct(inputs, outputs, 4, stride, 1, activation="leaky_relu"))
            else:
                self.convs.append(Conv2d(inputs, outputs, 4, stride=stride))
                self.norms.append(InstanceNorm(outputs, "leaky_relu", affine=False))
        self.to_logit = nn.Conv2d(widths[-1], 1, 4, 1, 1)

    @property
    def min_side(self) -> int:
        """The smallest image side that gives a logit."""
        side = 3  # what to_logit and the last stride-1 convolution take away, less their padding: 1 + 2
        return side * 2 ** (len(self.convs) - 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] -> (N, 1, H', W') logits, float32 (float64 stays)."""
        stem, *rest = self.convs
        x = stem(x)
        for convolution, norm in zip(rest, self.norms, strict=True):
            x = norm(convolution(x))
        return at_least_float32(self.to_logit(x))


register_discriminator(DiscriminatorSpec("patch", PatchGAN), default=True)
