"""The losses of both networks, as modules over ``fastgan.ops``. torch alone."""

from fastgan.losses.adversarial import AdversarialLoss, r1_penalty
from fastgan.losses.perceptual import ContentLoss, StyleLoss, style_distance, style_grams
from fastgan.losses.pixel import LuminanceLoss, PSNRLoss, SSIMLoss, TotalVariation
from fastgan.losses.registry import LOSSES, LossInputs, register_loss

__all__ = [
    "LOSSES",
    "AdversarialLoss",
    "ContentLoss",
    "LossInputs",
    "LuminanceLoss",
    "PSNRLoss",
    "SSIMLoss",
    "StyleLoss",
    "TotalVariation",
    "r1_penalty",
    "register_loss",
    "style_distance",
    "style_grams",
]
