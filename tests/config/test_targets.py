"""The measures that a run can be asked to hold."""

from fastgan.config.sections import QualityConfig
from fastgan.config.targets import TARGET_METRICS


def test_every_field_has_its_metric() -> None:
    fields = [name for name in QualityConfig.model_fields if name.startswith("target_")]
    assert fields == [f"target_{name}" for name in TARGET_METRICS]
    for name in TARGET_METRICS:
        assert QualityConfig.model_validate({f"target_{name}": 0.5}).target == (name, 0.5)
    assert QualityConfig().target is None
