"""The discriminator's loss from logits."""

from typing import Any


def test_discriminator_loss(run: Any, benchmark: Any) -> None:
    run(benchmark)
