"""The help of commands that train: names and defaults as the registries and the config have them."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from fastgan.cli.train import FIELDS
from fastgan.utils.choices import listed


class TrainingCommand(TyperCommand):
    """A command with the options of ``train``, whose help is made when it is asked for.

    The registries import torch, and plugins: too much for every start of the command line.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, with what the registries and the config say of each option."""
        from fastgan.models import GENERATORS
        from fastgan.training.tasks import TASKS

        names = {"model": tuple(GENERATORS), "task": tuple(TASKS)}
        defaults = _defaults()
        for parameter in self.params:
            option: Any = parameter
            field = FIELDS.get(option.name or "")
            if field is None or getattr(option, "help", None) is None:
                continue
            if option.name in names:
                option.help += f": {listed(names[option.name])}."
            if defaults[field]:
                option.help += f" [default: {defaults[field]}]"
        super().format_help(ctx, formatter)


def _defaults() -> dict[str, str]:
    """Field of an option -> its default, and those of the models that have another; empty where it has none."""
    from fastgan.config import load_config
    from fastgan.models import GENERATORS
    from fastgan.models.registry import get_field
    from fastgan.training.run_length import DEFAULT_STEPS

    configs = {name: load_config(overrides=[("", FIELDS["model"], name)]) for name in GENERATORS}
    texts = {FIELDS["steps"]: str(DEFAULT_STEPS), FIELDS["task"]: "the model's"}
    for field in FIELDS.values():
        values = {name: get_field(config, field) for name, config in configs.items()}
        usual = values[GENERATORS.default]
        parts = [] if usual is None else [_text(usual)]
        if field != FIELDS["model"]:
            parts += [f"{_text(value)} for {name}" for name, value in values.items() if value != usual]
        texts.setdefault(field, ", ".join(parts))
    return texts


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
