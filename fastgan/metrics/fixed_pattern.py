"""A pattern that is laid over every photograph alike."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from fastgan.metrics.base import check_pair

#: Root mean square, in [0, 1], below which a result adds nothing to its photograph: a tenth of an 8-bit level.
_NOTHING = 0.1 / 255


class FixedPattern:
    """Correlation, between different photographs, of what their results add to them: near 0 where the style follows the
    photograph, near 1 where one painting is laid over all of them.

    What a result adds is the residual of its best linear fit (and a constant) by its photograph's RGB. Two residuals
    are correlated over the same pixels and channels, those that both pictures have from the upper left on; where a
    result is such a fit, it has no residual and counts as 0. The value of a picture is the mean over its pairs; pairs
    are taken with the ``memory`` pictures before it.

    Args:
        memory: residuals that are kept, 2.6 MB each at a short side of 384 px.

    Example:
        >>> import torch
        >>> from fastgan import metrics
        >>> metric, photographs, painting = metrics.FixedPattern(), torch.rand(3, 3, 32, 32), torch.rand(1, 3, 32, 32)
        >>> metric.update(0.4 * photographs + 0.6 * painting, photographs)
        >>> bool(metric.compute() > 0.95)
        True
    """

    def __init__(self, memory: int = 32) -> None:
        if memory < 1:
            raise ValueError(f"memory must be 1 or more, got {memory}")
        self._recent: deque[tuple[int, Tensor]] = deque(maxlen=memory)
        self.reset()

    def reset(self) -> None:
        """Forget every image."""
        self._recent.clear()
        self._sums: list[float] = []
        self._pairs: list[int] = []

    @torch.no_grad()
    def update(self, result: Tensor, photograph: Tensor) -> None:
        """Add images in [0, 1], (N, 3, H, W) each. Raises ValueError for other shapes."""
        check_pair(result, photograph)
        for image, source in zip(result.detach().cpu().double(), photograph.detach().cpu().double(), strict=True):
            number, residual = len(self._sums), _residual(image, source).float()
            correlations = [(other, _correlation(residual, earlier)) for other, earlier in self._recent]
            self._sums.append(0.0)
            self._pairs.append(0)
            for other, value in correlations:
                for index in (number, other):
                    self._sums[index] += value
                    self._pairs[index] += 1
            self._recent.append((number, residual))

    @property
    def values(self) -> list[float]:
        """One value an image. Raises ValueError for fewer than two images."""
        if len(self._sums) < 2:
            raise ValueError(f"FixedPattern needs two pictures or more, got {len(self._sums)}")
        return [total / pairs for total, pairs in zip(self._sums, self._pairs, strict=True)]

    def compute(self) -> Tensor:
        """Mean over the images seen, a float64 scalar. Raises ValueError for fewer than two images."""
        return torch.tensor(self.values, dtype=torch.float64).mean()


def _residual(result: Tensor, photograph: Tensor) -> Tensor:
    """(3, H, W): ``result`` less its least-squares fit by ``photograph`` and a constant."""
    y, x = (image.flatten(1) - image.flatten(1).mean(1, keepdim=True) for image in (result, photograph))
    # A gray photograph has three channels that are one.
    fit = (y @ x.T) @ torch.linalg.pinv(x @ x.T, rtol=1e-10, hermitian=True)
    return (y - fit @ x).reshape(result.shape)


def _correlation(one: Tensor, other: Tensor) -> float:
    height, width = (min(sides) for sides in zip(one.shape[1:], other.shape[1:], strict=True))
    one, other = (image[:, :height, :width].flatten(1) for image in (one, other))
    one, other = (image - image.mean(1, keepdim=True) for image in (one, other))
    norms = [image.norm().item() for image in (one, other)]
    if min(norms) <= _NOTHING * one.numel() ** 0.5:
        return 0.0
    return (one * other).sum().item() / (norms[0] * norms[1])
