"""Training losses as modules over ``fastgan.ops``; imports torch alone."""

from fastgan.losses.adversarial import AdversarialLoss
from fastgan.losses.perceptual import ContentLoss, StyleLoss, style_distance, style_grams
from fastgan.losses.pixel import PSNRLoss, SSIMLoss, TotalVariation

__all__ = [
    "AdversarialLoss",
    "ContentLoss",
    "PSNRLoss",
    "SSIMLoss",
    "StyleLoss",
    "TotalVariation",
    "style_distance",
    "style_grams",
]
