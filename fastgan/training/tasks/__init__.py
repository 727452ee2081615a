"""The tasks that a run can learn, each one file; importing this package registers them."""

from fastgan.training.tasks.base import TASKS, Inputs, StepScalars, Task, register_task, task_of
from fastgan.training.tasks.generate import GenerateTask
from fastgan.training.tasks.stylize import StylizeTask

__all__ = ["TASKS", "GenerateTask", "Inputs", "StepScalars", "StylizeTask", "Task", "register_task", "task_of"]
