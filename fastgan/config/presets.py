"""Where a model's defaults depart from those of ``fast``, which are ``Config()``."""

from __future__ import annotations

from typing import Any

RECIPES: dict[str, dict[str, Any]] = {
    "fusion": {
        "model": {
            "fusion": "adain",
            "generator": {"depth": 3, "stem": None, "layer": "relu3_1"},
            "discriminator": {"depth": 3},
        },
        "loss": {"ssim": 1.0},
    },
    "article": {
        "model": {
            "generator": {"width": 64, "depth": 2, "stem": None},
            "discriminator": {"name": "article", "width": 32, "depth": 2},
        },
    },
    "dcgan": {
        "model": {
            "generator": {"width": 64, "depth": 1, "stem": None, "z_dim": 100},
            "discriminator": {"name": "dcgan", "width": 64, "depth": 1},
        },
        # No short side: all but whole photographs, whatever the size.
        "data": {"style": None, "size": 64, "batch": 32, "short_side": None},
        # Hundreds of photographs are few: without augmentation D knows them by heart within some hundred steps.
        "loss": {
            "adversarial": 1.0,
            "content": 0.0,
            "style": 0.0,
            "ssim": 0.0,
            "augment": ["color", "translation", "cutout"],
        },
        "optim": {
            "generator": {"lr": 4e-4, "beta1": 0.5, "beta2": 0.999},
            "discriminator": {"lr": 4e-4, "beta1": 0.5, "beta2": 0.999},
            "ema": 0.99,
        },
        "eval": {"every": 200},
        "log": {"samples_every": 500},
    },
}
