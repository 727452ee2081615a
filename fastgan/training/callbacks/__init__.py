"""Callbacks: the interface, and the trainer's own periodic work."""

from fastgan.training.callbacks.base import (
    Callback,
    CheckpointEvent,
    EndEvent,
    EvaluationEvent,
    MessageEvent,
    RollbackEvent,
    RollbackRequest,
    Run,
    SamplesEvent,
    StepEvent,
)
from fastgan.training.callbacks.checkpoints import Checkpoints
from fastgan.training.callbacks.collapse import CollapseMonitor
from fastgan.training.callbacks.evaluation import Evaluation, check_evaluates
from fastgan.training.callbacks.metrics_file import MetricsFile
from fastgan.training.callbacks.rollback import DivergenceError, Rollback
from fastgan.training.callbacks.samples import Samples
from fastgan.training.callbacks.tensorboard import TensorBoard
from fastgan.training.callbacks.writers import open_writers

__all__ = [
    "Callback",
    "CheckpointEvent",
    "Checkpoints",
    "CollapseMonitor",
    "DivergenceError",
    "EndEvent",
    "Evaluation",
    "EvaluationEvent",
    "MessageEvent",
    "MetricsFile",
    "Rollback",
    "RollbackEvent",
    "RollbackRequest",
    "Run",
    "Samples",
    "SamplesEvent",
    "StepEvent",
    "TensorBoard",
    "check_evaluates",
    "open_writers",
]
