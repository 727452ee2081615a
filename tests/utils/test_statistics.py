"""Quantiles and means of measured values."""

import math

import numpy as np
import pytest

from fastgan.utils.statistics import geometric_mean, quantile


@pytest.mark.parametrize("q", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_quantiles_are_numpys(q: float) -> None:
    values = [5.0, 1.0, 4.0, 2.5, 9.0]
    assert quantile(values, q) == pytest.approx(np.quantile(values, q))
    assert quantile([3.0], q) == 3.0


def test_geometric_mean() -> None:
    assert geometric_mean([1.0, 8.0, 27.0]) == pytest.approx(6.0)
    assert geometric_mean([2.0]) == pytest.approx(2.0, rel=1e-15) and math.isfinite(geometric_mean([1e200, 1e200]))
