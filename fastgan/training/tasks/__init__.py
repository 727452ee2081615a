"""What is learnt: pictures in a style, or images from noise. A task has its step, its measures and its samples."""

from fastgan.training.tasks.base import Task
from fastgan.training.tasks.generate import NoiseTask
from fastgan.training.tasks.stylize import StylizeTask

__all__ = ["NoiseTask", "StylizeTask", "Task"]
