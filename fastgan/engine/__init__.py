"""The training engine: state, step, trainer, checkpoints, inference, evaluation."""

from fastgan.engine.callbacks import Callback
from fastgan.engine.evaluate import Evaluator, Measures, NoiseEvaluator
from fastgan.engine.infer import Stylizer
from fastgan.engine.model_files import load
from fastgan.engine.sampler import Sampler
from fastgan.engine.state import TrainState
from fastgan.engine.trainer import DivergenceError, Trainer

__all__ = [
    "Callback",
    "DivergenceError",
    "Evaluator",
    "Measures",
    "NoiseEvaluator",
    "Sampler",
    "Stylizer",
    "TrainState",
    "Trainer",
    "load",
]
