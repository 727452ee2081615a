"""``fastgan train``."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from fastgan.cli.options import FEATURES_HELP, PRECISION_HELP
from fastgan.cli.start_time import STARTED
from fastgan.cli.stop_signals import StopOnSignal
from fastgan.config import Config, load_config, parse_set, read_config_file
from fastgan.config.sections import FusionMode
from fastgan.config.targets import TARGET_METRICS
from fastgan.errors import FastganError, InputError
from fastgan.utils.choices import listed

#: Options and the fields of config.yaml that they set; the help has the defaults of these fields.
FIELDS = {
    "content": "data.content",
    "style": "data.style",
    "steps": "train.steps",
    "epochs": "train.epochs",
    "minutes": "train.minutes",
    "size": "data.size",
    "batch": "data.batch",
    "seed": "train.seed",
    "init": "train.init",
    "model": "model.name",
    "fusion": "model.fusion",
    "task": "task",
    "features": "model.features",
    "target_ssim": "quality.target_ssim",
    "target_psnr": "quality.target_psnr",
    "target_coverage": "quality.target_coverage",
    "target_lpips": "quality.target_lpips",
    "precision": "train.precision",
    "compile": "train.compile",
}
#: Fields that a run keeps from its beginning to its end.
_FIXED = tuple(FIELDS[name] for name in ("model", "fusion", "task", "init"))
#: Options of which a run has at most one.
_ALTERNATIVES = (("steps", "epochs", "minutes"), tuple(f"target_{name}" for name in TARGET_METRICS))


def train(
    out: Annotated[Path, typer.Option(help="The run folder to make.", show_default=False)],
    content: Annotated[
        str | None, typer.Option(help="Photographs: a folder of files or of *.tar shards, or demo; ./demo is a folder.")
    ] = None,
    style: Annotated[str | None, typer.Option(help="A style image, a folder of them, or demo.")] = None,
    steps: Annotated[int | None, typer.Option(help="Length in steps.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Length in passes over the photographs.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Length in wall time of the whole command.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the training crops, pixels.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    seed: Annotated[int | None, typer.Option(help="Networks and data order follow from it.")] = None,
    init: Annotated[
        str | None, typer.Option(help="Begin with the generator of this run or model; any-style comes with fastgan.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The network")] = None,
    fusion: Annotated[str | None, typer.Option(help=f"Of --model fusion: {listed(get_args(FusionMode))}.")] = None,
    task: Annotated[str | None, typer.Option(help="What to learn")] = None,
    features: Annotated[str | None, typer.Option(help=FEATURES_HELP)] = None,
    target_ssim: Annotated[float | None, typer.Option(help="Hold this SSIM to the photographs.")] = None,
    target_psnr: Annotated[float | None, typer.Option(help="Hold this PSNR (dB) to the photographs.")] = None,
    target_coverage: Annotated[
        float | None, typer.Option(help="Carry the style in this share of the pictures, with as much photograph.")
    ] = None,
    target_lpips: Annotated[
        float | None, typer.Option(help="Hold this LPIPS (0 is the photograph) to the photographs.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help=PRECISION_HELP)] = None,
    compile: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="torch.compile the networks; auto where it pays.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file of fields, as config.yaml of a run.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value, any field of config.yaml.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")] = False,
) -> int:
    """Train a model; its pictures, metrics and report lie in --out."""
    options: dict[str, Any] = dict(locals())
    run = load_config(out / "config.yaml") if resume and (out / "config.yaml").is_file() else None
    if run is not None:
        _check_same_model(run, out, [*_given_in(config), *_overrides(options)])
    settings = load_settings(options, None if run is None else run.model_dump())

    stop = StopOnSignal()

    import torch

    from fastgan.cli.progress import Progress
    from fastgan.training import Trainer

    check_task(settings, task)
    stop.trainer = Trainer(settings, out=out, callbacks=[Progress(out)], resume=resume, started=STARTED)
    # Sums differ in their last bits between numbers of threads: a resumed run takes up its own.
    torch.set_num_threads(stop.trainer.state.threads)
    if stop.number is not None:
        stop.trainer.request_stop()
    # Progress shows what the trainer logs; with a handler of their own these records do not go to stderr once more.
    logging.getLogger("fastgan.training").addHandler(logging.NullHandler())
    begin = stop.trainer.state.global_step
    try:
        report = stop.trainer.fit()
    except InputError as error:
        if stop.trainer.state.global_step == begin:
            raise
        raise FastganError(str(error)) from error  # a run that failed, and not nothing done
    return 0 if stop.number is None or report["complete"] else 128 + stop.number


def load_settings(options: Mapping[str, Any], base: Mapping[str, Any] | None = None) -> Config:
    """The config that options of ``train`` give, by their Python names, over that of a run, ``base``.

    Raises:
        InputError: an option or a file that cannot be used.
    """
    return load_config(options["config"], _overrides(options), base)


def _overrides(options: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    """(what was typed, dotted field, value) of every option that sets a field."""
    overrides = [
        (f"--{name.replace('_', '-')}", field, options[name])
        for name, field in FIELDS.items()
        if options[name] is not None
    ]
    for alternatives in _ALTERNATIVES:
        named = [name for name in alternatives if options[name] is not None]
        if len(named) == 1:  # an option replaces what a file, or the run that is resumed, says in another way
            overrides += [(f"--{named[0]}", FIELDS[name], None) for name in alternatives if name not in named]
    return overrides + [parse_set(text) for text in options["set_"] or ()]


def _given_in(file: Path | None) -> Iterator[tuple[str, str, Any]]:
    """(file and field, dotted field, value) of those of ``_FIXED`` that a file of ``--config`` gives."""
    fields = {} if file is None else read_config_file(file)[0]
    for field in _FIXED:
        value: Any = fields
        for name in field.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        yield f"--config {file}: {field}", field, value


def _check_same_model(run: Config, out: Path, asked: Iterable[tuple[str, str, Any]]) -> None:
    """Raise InputError where (what was typed, field, value) ask for another model or task than the run has."""
    from fastgan.models.registry import get_field
    from fastgan.training.tasks import task_of

    has = {field: get_field(run, field) for field in _FIXED} | {FIELDS["task"]: task_of(run).name}
    for origin, field, value in asked:
        if field in has and value is not None and value != has[field]:
            wording = origin if origin.endswith(str(value)) else f"{origin} {value}"
            raise InputError(f"{wording}: the run in {out} has {has[field]}; leave it out, or give another --out")


def check_task(settings: Config, task: str | None) -> None:
    """Raise InputError naming ``--task`` if that option asks for a task that there is not, or of other generators."""
    from fastgan.training.tasks import task_of

    try:
        task_of(settings)
    except InputError as error:
        raise (error if task is None else InputError(f"--task {task}: {str(error).removeprefix('task: ')}")) from None
