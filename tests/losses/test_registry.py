"""The registry of loss terms."""

import pytest

from fastgan.losses import LOSSES, LossInputs, register_loss


@pytest.mark.parametrize("name", ["g", "style", "content", "total", "r1", "a.b", "a/b", ""])
def test_names_of_the_metrics_are_refused(name: str) -> None:
    """They would take the place of a run's own, ``loss/g`` among them, which the generator learns from."""
    with pytest.raises(ValueError, match="a loss must have a name that is an identifier and none of g, d, "):
        register_loss(name, lambda inputs: inputs.generated.mean())
    assert name not in LOSSES


def test_a_name_is_registered_once() -> None:
    def term(inputs: LossInputs) -> object:
        return inputs.generated.mean()

    register_loss("of_a_test", term)  # type: ignore[arg-type]
    register_loss("of_a_test", term)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the loss of_a_test is registered twice"):
        register_loss("of_a_test", lambda inputs: inputs.generated.mean())
    LOSSES._units.pop("of_a_test")
