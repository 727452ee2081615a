"""One number from what is measured of pictures: which model is the best, and whether it still gets better."""

from __future__ import annotations

from collections.abc import Mapping

from fastgan.config.targets import TARGET_METRICS

#: SSIM that weighs as much as a style distance of 1, or as windows without style: what looks best has an SSIM of 0.45
#: to 0.55, and a photograph (SSIM 1, no style at all) must not be a good score.
_SSIM_WEIGHT = 0.45
#: What is missing to a target weighs so many times what SSIM does without one.
_GAP_WEIGHT = 10.0
#: Published networks have 0.00 to 0.05, a painting laid over photographs 0.97.
FIXED_PATTERN_LIMIT = 0.10


def picture_score(measured: Mapping[str, float], target: tuple[str, float] | None = None) -> float:
    """The score of stylized photographs, lower is better; it cannot be had by painting a part of each.

    The style's share is the style distance of whole pictures, the share of windows that do not carry the style, and
    how far ``fixed_pattern`` is beyond 0.10. The photograph's share is 0.45 times 1 - SSIM. With a target, what is
    missing to it counts ten times as much, and takes the place of the photograph's share unless it is coverage: the
    target then says how much of the photograph is wanted. Weights of the loss do not matter: runs of different recipes
    can be compared.

    Args:
        measured: means of ``style_distance``, ``coverage``, ``ssim``, what the target names (``psnr`` in dB) and, where
            there is one, of ``fixed_pattern``.
        target: what the user asked for, a name of ``fastgan.config.targets`` and its value.
    """
    style = measured["style_distance"] + 1 - measured["coverage"]
    style += max(0.0, measured.get("fixed_pattern", 0.0) - FIXED_PATTERN_LIMIT)
    if target is None:
        return style + _SSIM_WEIGHT * (1 - measured["ssim"])
    name, value = target
    metric = TARGET_METRICS[name]
    missing = max(0.0, (1 if metric.higher_is_better else -1) * (value - measured[name]) / metric.scale)
    if name == "coverage":
        style += _SSIM_WEIGHT * (1 - measured["ssim"])
    return style + _GAP_WEIGHT * _SSIM_WEIGHT * missing
