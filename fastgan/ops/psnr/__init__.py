"""Peak signal-to-noise ratio."""

from torch import Tensor

from fastgan.ops import _checks, _native
from fastgan.ops._registry import Backend, register, select
from fastgan.ops.psnr import reference, torch_library

register(
    Backend("psnr", "reference", reference.psnr),
    _native.backend("psnr", torch_library.psnr),
    preference={"cpu": ("native", "reference")},
)


def psnr(
    x: Tensor, y: Tensor, *, data_range: float = 1.0, reduction: str = "mean", backend: str | None = None
) -> Tensor:
    """Peak signal-to-noise ratio of two batches of images in dB: 10 log10(data_range^2 / mean squared error) (SPEC S9).

    Args:
        x, y: (N, C, H, W), any strides; the squared error is averaged over C, H and W of each image.
        data_range: the largest difference two pixels can have: 1 for images in [0, 1], 255 for 8 bits.
        reduction: "mean" for the mean of the images' values, "none" for (N,).

    Returns:
        float32, or float64 where an input is. Identical images give inf, with a gradient of 0.

    Raises:
        TypeError: a tensor is not floating.
        ValueError: shapes that differ or are not four-dimensional, unknown `reduction`, `data_range` not above 0, or a
            backend that cannot be had.

    Example:
        >>> import torch
        >>> from fastgan import ops
        >>> ops.psnr(torch.full((1, 3, 8, 8), 0.5), torch.full((1, 3, 8, 8), 0.6)).round(decimals=2)
        tensor(20.)
    """
    _checks.image_pair(x, y)
    _checks.positive("data_range", data_range)
    _checks.one_of("reduction", reduction, _checks.REDUCTIONS)
    per_image = select("psnr", x, y, backend=backend)(x, y, float(data_range))
    return _checks.reduce(per_image, reduction)
