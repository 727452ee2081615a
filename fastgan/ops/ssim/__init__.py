"""Structural similarity."""

from torch import Tensor

from fastgan.ops import _checks, _native
from fastgan.ops._registry import Backend, register, select
from fastgan.ops.ssim import reference, torch_library

WINDOWS = ("gaussian", "uniform")

register(
    Backend("ssim", "reference", reference.ssim),
    _native.backend("ssim", torch_library.ssim),
    preference={"cpu": ("native", "reference")},
)


def ssim(
    x: Tensor,
    y: Tensor,
    *,
    data_range: float = 1.0,
    window: str = "gaussian",
    window_size: int = 11,
    sigma: float = 1.5,
    reduction: str = "mean",
    backend: str | None = None,
) -> Tensor:
    """Structural similarity of two batches of images (Wang et al. 2004; SPEC S9), K1 = 0.01 and K2 = 0.03.

    Taken where the window lies wholly inside the image and averaged over pixels and channels. The Gaussian window uses
    population covariances, the uniform one sample covariances: both equal
    `skimage.metrics.structural_similarity`, the former with `gaussian_weights=True, use_sample_covariance=False`.

    Args:
        x, y: (N, C, H, W), any strides, H and W at least `window_size`.
        data_range: the largest difference two pixels can have: 1 for images in [0, 1], 255 for 8 bits.
        window: "gaussian" with standard deviation `sigma` in pixels, or "uniform".
        window_size: odd number of pixels.
        reduction: "mean" for a scalar, "none" for (N,).

    Returns:
        float32, or float64 where an input is; 1 for identical images.

    Raises:
        TypeError: a tensor is not floating.
        ValueError: shapes that differ or are not four-dimensional, images smaller than the window, an even or too small
            `window_size`, other values out of range, or a backend that cannot be had.

    Example:
        >>> import torch
        >>> from fastgan import ops
        >>> x = torch.rand(2, 3, 32, 32)
        >>> ops.ssim(x, x, reduction="none").round(decimals=4)
        tensor([1., 1.])
        >>> bool(ops.ssim(x, 1 - x) < 0)
        True
    """
    _checks.image_pair(x, y)
    _checks.one_of("window", window, WINDOWS)
    smallest = 3 if window == "uniform" else 1
    if not isinstance(window_size, int) or window_size < smallest or window_size % 2 == 0:
        raise ValueError(f"window_size must be an odd integer of at least {smallest}, got {window_size!r}")
    if min(x.shape[2:]) < window_size:
        raise ValueError(
            f"images must be at least {window_size} x {window_size} pixels for window_size={window_size}, "
            f"got {x.shape[2]} x {x.shape[3]}"
        )
    _checks.positive("data_range", data_range)
    _checks.positive("sigma", sigma)
    if sigma < 1e-6 or not 1e-30 <= data_range <= 1e30:  # float32 would lose the window, or the constants
        raise ValueError(f"sigma must be at least 1e-6 and data_range 1e-30 to 1e30, got {sigma!r} and {data_range!r}")
    _checks.one_of("reduction", reduction, _checks.REDUCTIONS)
    per_image = select("ssim", x, y, backend=backend)(x, y, float(data_range), window, window_size, float(sigma))
    return _checks.reduce(per_image, reduction)
