"""Gram matrices and the style loss on them."""

from typing import Any


def test_gram(run: Any, benchmark: Any) -> None:
    run(benchmark)


def test_gram_style_loss(run: Any, benchmark: Any) -> None:
    run(benchmark)
