"""The training engine: ``Trainer``, its state, tasks and callbacks."""

from fastgan.training.callbacks import Callback, DivergenceError
from fastgan.training.state import TrainState
from fastgan.training.tasks import Task, register_task
from fastgan.training.trainer import Trainer

__all__ = ["Callback", "DivergenceError", "Task", "TrainState", "Trainer", "register_task"]
