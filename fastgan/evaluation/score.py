"""One number from what is measured of pictures: which model is the best, and whether it still gets better."""

from __future__ import annotations

from collections.abc import Mapping

#: SSIM that weighs as much as a style distance of 1, or as windows without style: what looks best has an SSIM of 0.45
#: to 0.55, and a photograph (SSIM 1, no style at all) must not be a good score.
_SSIM_WEIGHT = 0.45
#: The gap to a target weighs so many times what SSIM does without one.
_GAP_WEIGHT = 10.0
#: Decibels that weigh as much as an SSIM of 1.
_DECIBELS = 20.0
#: Published networks have 0.00 to 0.05, a painting laid over photographs 0.97.
FIXED_PATTERN_LIMIT = 0.10


def picture_score(
    measured: Mapping[str, float], *, target_ssim: float | None = None, target_psnr: float | None = None
) -> float:
    """The score of stylized photographs, lower is better; it cannot be had by painting a part of each.

    The style's share is the style distance of whole pictures, the share of windows that do not carry the style, and
    how far ``fixed_pattern`` is beyond 0.10. The photograph's share is 0.45 times 1 - SSIM; with a target, ten times
    as much of what is missing to it. Weights of the loss do not matter: runs of different recipes can be compared.

    Args:
        measured: means of ``style_distance``, ``coverage``, ``ssim``, with ``target_psnr`` of ``psnr`` (dB) and,
            where there is one, of ``fixed_pattern``.
        target_ssim, target_psnr: what the user asked for; at most one.
    """
    style = measured["style_distance"] + 1 - measured["coverage"]
    style += max(0.0, measured.get("fixed_pattern", 0.0) - FIXED_PATTERN_LIMIT)
    if target_ssim is not None:
        return style + _GAP_WEIGHT * _SSIM_WEIGHT * max(0.0, target_ssim - measured["ssim"])
    if target_psnr is not None:
        return style + _GAP_WEIGHT * _SSIM_WEIGHT * max(0.0, target_psnr - measured["psnr"]) / _DECIBELS
    return style + _SSIM_WEIGHT * (1 - measured["ssim"])
