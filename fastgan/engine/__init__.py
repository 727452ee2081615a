"""The training engine: state, step, trainer, checkpoints, inference, evaluation."""

from fastgan.engine.callbacks import Callback
from fastgan.engine.evaluate import Evaluator, Measures
from fastgan.engine.infer import Stylizer, load
from fastgan.engine.state import TrainState
from fastgan.engine.trainer import DivergenceError, Trainer

__all__ = ["Callback", "DivergenceError", "Evaluator", "Measures", "Stylizer", "TrainState", "Trainer", "load"]
