"""Fixtures of the engine's tests."""

from typing import Any

import pytest
import torch.nn.functional as F

from fastgan.models import VGGEncoder


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the plots of the report, which take longer than the training here."""
    monkeypatch.setattr("fastgan.engine.report._write_plots", lambda *_: [], raising=False)


@pytest.fixture
def smooth_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features without a kink: no ReLU, and means in place of a window's largest value.

    Of an encoder's million units some lie within rounding of a kink, the more so as clipped pictures have areas of one
    colour. Each takes either side, and with it goes its whole part of the gradient for a picture.
    """
    build = VGGEncoder.__init__

    def without_kinks(self: VGGEncoder, *args: Any, **options: Any) -> None:
        build(self, *args, **options)
        for conv in self.convs.values():
            conv.activation = None

    monkeypatch.setattr(VGGEncoder, "__init__", without_kinks)
    monkeypatch.setattr("fastgan.ops.max_pool", lambda x: F.avg_pool2d(x, 2))
