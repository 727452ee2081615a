"""What is learnt: pictures in a style, or images from noise. A task has its step, its measures and its samples."""

from fastgan.engine.tasks.base import Task
from fastgan.engine.tasks.noise import NoiseTask
from fastgan.engine.tasks.stylize import StylizeTask

__all__ = ["NoiseTask", "StylizeTask", "Task"]
