"""``fastgan train``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fastgan.cli.start_time import STARTED
from fastgan.cli.stop_signals import StopOnSignal
from fastgan.config import Config, load_config, parse_set
from fastgan.errors import InputError

#: Options and the fields of config.yaml that they set.
_FIELDS = {
    "content": "data.content",
    "style": "data.style",
    "steps": "train.steps",
    "epochs": "train.epochs",
    "minutes": "train.minutes",
    "size": "data.size",
    "batch": "data.batch",
    "seed": "train.seed",
    "model": "model.name",
    "fusion": "model.fusion",
    "task": "task",
    "features": "model.features",
    "target_ssim": "quality.target_ssim",
    "target_psnr": "quality.target_psnr",
    "precision": "train.precision",
    "compile": "train.compile",
}
#: Options of which a run has at most one.
_ALTERNATIVES = (("steps", "epochs", "minutes"), ("target_ssim", "target_psnr"))


def train(
    out: Annotated[Path, typer.Option(help="The run folder to make.", show_default=False)],
    content: Annotated[
        str | None, typer.Option(help="Photographs: a folder of files or of *.tar shards, or demo. [default: demo]")
    ] = None,
    style: Annotated[
        str | None, typer.Option(help="A style image, a folder of them, or demo. [default: demo; dcgan has none]")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Length in steps. [default: 2000]")] = None,
    epochs: Annotated[float | None, typer.Option(help="Length in passes over the photographs.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Length in wall time of the whole command.")] = None,
    size: Annotated[
        int | None, typer.Option(help="Side of the training crops, pixels. [default: 256; dcgan 64]")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Images a step. [default: 4; dcgan 32]")] = None,
    seed: Annotated[int | None, typer.Option(help="Networks and data order follow from it. [default: 0]")] = None,
    model: Annotated[
        str | None, typer.Option(help="The network: fast, fusion, article or dcgan. [default: fast]")
    ] = None,
    fusion: Annotated[
        str | None, typer.Option(help="Of --model fusion: adain, convex, additive or mlp. [default: adain]")
    ] = None,
    task: Annotated[str | None, typer.Option(help="What to learn: stylize or generate. [default: the model's]")] = None,
    features: Annotated[
        str | None, typer.Option(help="VGG-19 weights: vgg19, torchvision, random or a file. [default: vgg19]")
    ] = None,
    target_ssim: Annotated[float | None, typer.Option(help="Hold this SSIM to the photographs.")] = None,
    target_psnr: Annotated[float | None, typer.Option(help="Hold this PSNR (dB) to the photographs.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16. [default: auto]")] = None,
    compile: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="torch.compile the networks. [default: where it pays]")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file of fields, as config.yaml of a run.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value, any field of config.yaml.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")] = False,
) -> int:
    """Train a model; its pictures, metrics and report lie in --out."""
    options: dict[str, Any] = dict(locals())
    base = None
    if resume and (out / "config.yaml").is_file():
        base = load_config(out / "config.yaml").model_dump(mode="json")
        for option, was in (("model", base["model"]["name"]), ("fusion", base["model"]["fusion"])):
            if options[option] not in (None, was):
                raise InputError(
                    f"--{option} {options[option]}: the run in {out} has {was}; leave it out, or give another --out"
                )
    settings = load_settings(options, base)

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
    report = stop.trainer.fit()
    return 0 if stop.number is None or report["complete"] else 128 + stop.number


def load_settings(options: Mapping[str, Any], base: Mapping[str, Any] | None = None) -> Config:
    """The config that options of ``train`` give, by their Python names, over that of a run, ``base``.

    Raises:
        InputError: an option or a file that cannot be used.
    """
    overrides = [
        (f"--{name.replace('_', '-')}", field, options[name])
        for name, field in _FIELDS.items()
        if options[name] is not None
    ]
    for alternatives in _ALTERNATIVES:
        named = [name for name in alternatives if options[name] is not None]
        if len(named) == 1:  # an option replaces what a file, or the run that is resumed, says in another way
            overrides += [(f"--{named[0]}", _FIELDS[name], None) for name in alternatives if name not in named]
    overrides += [parse_set(text) for text in options["set_"] or ()]
    return load_config(options["config"], overrides, base)


def check_task(settings: Config, task: str | None) -> None:
    """Raise InputError naming ``--task`` if that option asks for a task that there is not, or of other generators."""
    from fastgan.training.tasks import task_of

    try:
        task_of(settings)
    except InputError as error:
        raise (error if task is None else InputError(f"--task {task}: {str(error).removeprefix('task: ')}")) from None
