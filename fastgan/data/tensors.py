"""Decoded images as tensors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastgan import ops


def image_to_tensor(image: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 to (1, 3, H, W) in [-1, 1]."""
    return ops.from_pixels(torch.from_numpy(np.ascontiguousarray(image))[None])
