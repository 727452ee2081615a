"""The training engine: ``Trainer``, its state, tasks and callbacks."""

from fastgan.training.callbacks.base import Callback
from fastgan.training.state import TrainState
from fastgan.training.trainer import DivergenceError, Trainer

__all__ = ["Callback", "DivergenceError", "TrainState", "Trainer"]
