"""A trained generator of images from noise (SPEC S1): ``fastgan.load(path).generate(16)``."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from fastgan import ops
from fastgan.precision import autocast, to_device
from fastgan.utils.host_settings import own_settings


class Sampler:
    """A generator that makes images from noise; threads may share one. The caller's autocast does not reach it.

    Args:
        generator: the network.
        device, dtype: where, and in what arithmetic, it runs.
        features: the VGG-19 weights that its images are measured by.
    """

    def __init__(self, generator: nn.Module, device: torch.device, dtype: torch.dtype, features: str = "vgg19") -> None:
        self.features = features
        self.generator: Any = to_device(generator, device).eval()
        self.device = device
        self.dtype = dtype

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        """Raise TypeError: the model takes no picture."""
        raise TypeError("this model makes images from noise and takes no picture; use generate(count)")

    def code(self, *_: Any, **__: Any) -> NoReturn:
        """Raise TypeError: the model takes no style."""
        raise TypeError("this model makes images from noise and takes no style; use generate(count)")

    @own_settings()
    def noise(self, count: int, *, seed: int = 0) -> Tensor:
        """(count, z_dim) of N(0, 1): image i is the same for every ``count``."""
        rng = torch.Generator().manual_seed(seed)
        # torch draws in blocks of 16, and where the last is cut short draws that block anew.
        numbers = count * self.generator.z_dim
        return torch.randn(-(-numbers // 16) * 16, generator=rng, dtype=torch.float32)[:numbers].view(count, -1)

    def generate(self, count: int, *, seed: int = 0) -> np.ndarray:
        """(count, H, W, 3) uint8. Raises ValueError for a count below 1."""
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        return ops.to_pixels(self.run(self.noise(count, seed=seed))).cpu().numpy()

    @own_settings()
    def interpolate(self, steps: int, *, seed: int = 0) -> np.ndarray:
        """From one image to another along the great circle between their noises: (steps, H, W, 3) uint8.

        The straight line would lead through noise shorter than any that was trained on (White 2016).
        """
        if steps < 2:
            raise ValueError(f"steps must be at least 2, got {steps}")
        start, end = self.noise(2, seed=seed)
        angle = torch.acos(torch.dot(start / start.norm(), end / end.norm()).clamp(-1, 1)).item()
        shares = torch.linspace(0, 1, steps, dtype=torch.float32)[:, None]
        z = (torch.sin((1 - shares) * angle) * start + torch.sin(shares * angle) * end) / math.sin(angle)
        return ops.to_pixels(self.run(z)).cpu().numpy()

    @own_settings()
    @torch.no_grad()
    def run(self, z: Tensor, *, batch: int = 64) -> Tensor:
        """(N, z_dim) to (N, 3, H, W) in [-1, 1], float32, ``batch`` at a time."""
        with autocast(self.device, self.dtype):
            return torch.cat([self.generator(part.to(self.device)) for part in z.split(batch)])
