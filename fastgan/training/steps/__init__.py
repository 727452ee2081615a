"""Training steps: what one batch changes in a run's state."""

from fastgan.training.steps.adversarial import AdversarialStep, Phases
from fastgan.training.steps.noise import NoiseStep
from fastgan.training.steps.stylize import StylizeStep

__all__ = ["AdversarialStep", "NoiseStep", "Phases", "StylizeStep"]
