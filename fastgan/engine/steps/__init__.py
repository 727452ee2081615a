"""Training steps: what one batch changes in a run's state."""

from fastgan.engine.steps.adversarial import AdversarialStep, Phases
from fastgan.engine.steps.noise import NoiseStep
from fastgan.engine.steps.stylize import StylizeStep

__all__ = ["AdversarialStep", "NoiseStep", "Phases", "StylizeStep"]
