"""The measures that a run can be asked to hold: ``quality.target_NAME`` (SPEC S10)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TargetMetric:
    """A measure that training can hold.

    Attributes:
        scale: what counts as an error of 1.
        rises_with_structure: whether it rises with the weight of the losses that keep the photograph.
        higher_is_better: whether more than the target is no fault.
        of_batches: whether each batch is measured, and not only photographs held out.
    """

    scale: float = 1.0
    rises_with_structure: bool = True
    higher_is_better: bool = True
    of_batches: bool = True


#: By the name after ``quality.target_``.
TARGET_METRICS = {
    "ssim": TargetMetric(),
    "psnr": TargetMetric(scale=20.0),
    "coverage": TargetMetric(rises_with_structure=False, of_batches=False),
    "lpips": TargetMetric(rises_with_structure=False, higher_is_better=False, of_batches=False),
}
