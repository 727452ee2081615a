"""Third-party implementations: a package that is installed takes part under its name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastgan.bench.baselines import adam
from fastgan.bench.ops.op_benchmark import OpCase

Function = Callable[..., Tensor]


def third_party(case: OpCase) -> dict[str, Callable[[], Function]]:
    """Makers by package, which import it and return the function; ImportError if it is not installed."""
    makers = {**_TORCH.get(case.benchmark.op, {}), **_THIRD_PARTY.get(case.benchmark.op, {})}
    if case.device != "cpu" or case.gradient or case.dtype != torch.float32:
        makers.pop("scikit-image", None)
    if case.device != "cuda" or case.dtype != torch.float32:
        makers.pop("fused-ssim", None)
    return makers


def _module(name: str) -> Any:
    return importlib.import_module(name)


def _msssim_ssim() -> Function:
    ssim = _module("pytorch_msssim").ssim
    return lambda x, y: ssim(x, y, data_range=1.0)


def _torchmetrics_ssim() -> Function:
    # Its own mean includes a border of reflected pixels; the cropped map has the same pixels as the others.
    ssim = _module("torchmetrics.functional.image").structural_similarity_index_measure
    return lambda x, y: ssim(x, y, data_range=1.0, return_full_image=True)[1][..., 5:-5, 5:-5].mean()


def _kornia_ssim() -> Function:
    ssim = _module("kornia.metrics").ssim
    return lambda x, y: ssim(x, y, 11, padding="valid").mean()


def _piq_ssim() -> Function:
    ssim = _module("piq").ssim
    return lambda x, y: ssim(x, y, downsample=False)


def _skimage_ssim() -> Function:
    ssim = _module("skimage.metrics").structural_similarity
    options = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}

    def run(x: Tensor, y: Tensor) -> Tensor:
        pairs = zip(x.numpy(), y.numpy(), strict=True)
        return torch.tensor([float(ssim(a, b, channel_axis=0, **options)) for a, b in pairs]).mean()

    return run


def _fused_ssim() -> Function:
    ssim = _module("fused_ssim").fused_ssim
    return lambda x, y: ssim(x, y, padding="valid", train=x.requires_grad)


def _torchmetrics_psnr() -> Function:
    psnr = _module("torchmetrics.functional.image").peak_signal_noise_ratio
    return lambda x, y: psnr(x, y, data_range=1.0, dim=(1, 2, 3))


def _kornia_psnr() -> Function:
    # It averages the squared error over the batch; the mean of the PSNR of each image needs a call for each.
    psnr = _module("kornia.metrics").psnr
    return lambda x, y: torch.stack([psnr(a, b, 1.0) for a, b in zip(x, y, strict=True)]).mean()


def _piq_psnr() -> Function:
    psnr = _module("piq").psnr
    return lambda x, y: psnr(x, y)


def _skimage_psnr() -> Function:
    psnr = _module("skimage.metrics").peak_signal_noise_ratio

    def run(x: Tensor, y: Tensor) -> Tensor:
        pairs = zip(x.numpy(), y.numpy(), strict=True)
        return torch.tensor([float(psnr(a, b, data_range=1.0)) for a, b in pairs]).mean()

    return run


#: Part of torch itself.
_TORCH: dict[str, dict[str, Callable[[], Function]]] = {
    "optim_step": {
        "torch.optim foreach": lambda: adam.torch_adam(foreach=True),
        "torch.optim fused": lambda: adam.torch_adam(fused=True),
    },
    "check_finite": {"torch.amp": adam.amp_non_finite_check},
}
_THIRD_PARTY: dict[str, dict[str, Callable[[], Function]]] = {
    "ssim": {
        "pytorch-msssim": _msssim_ssim,
        "torchmetrics": _torchmetrics_ssim,
        "kornia": _kornia_ssim,
        "piq": _piq_ssim,
        "scikit-image": _skimage_ssim,
        "fused-ssim": _fused_ssim,
    },
    "psnr": {
        "torchmetrics": _torchmetrics_psnr,
        "kornia": _kornia_psnr,
        "piq": _piq_psnr,
        "scikit-image": _skimage_psnr,
    },
}
PACKAGES = tuple(dict.fromkeys(name for of_op in _THIRD_PARTY.values() for name in of_op))
