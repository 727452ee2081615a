"""Checks that fields go together; each refusal says what would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from fastgan.config.sections import (
        DataConfig,
        LossConfig,
        ModelConfig,
        OptimConfig,
        QualityConfig,
        TrainConfig,
    )
    from fastgan.models import GeneratorSpec

#: Pixels of a picture beside each of relu4_1, the last of the style's layers.
_STYLE_STRIDE = 8
#: The losses that the structure weight multiplies.
_STRUCTURE = ("content", "ssim", "psnr", "luminance")
_PERCEPTUAL = ("extra", "content", "style", "ssim", "psnr", "luminance", "tv")


class Sections(Protocol):
    """The sections of a ``Config`` that have to go together."""

    model: ModelConfig
    data: DataConfig
    loss: LossConfig
    optim: OptimConfig
    quality: QualityConfig
    train: TrainConfig


def check_combinations(config: Sections) -> None:
    """Check that the fields of a config go together.

    Raises:
        ValueError: they do not; in one line that says what would work.
    """
    from fastgan.models import DISCRIMINATORS, GENERATORS

    for field, name, registry in (
        ("model.name", config.model.name, GENERATORS),
        ("model.discriminator.name", config.model.discriminator.name, DISCRIMINATORS),
    ):
        if name not in registry:
            raise ValueError(f"{field}: must be one of {', '.join(registry)}, got {name!r}")
    spec = GENERATORS[config.model.name]
    _options(config, spec)
    _batch(config, spec)
    _discriminator(config)
    _inputs(config, spec)
    _style_windows(config)
    _extra_losses(config)
    _adversarial(config)
    _memory(config, spec)


def models_that_take(inputs: str) -> str:
    """The models that take ``"images"`` or ``"noise"``, as ``model.name`` has them: ``fast, article or fusion``."""
    from fastgan.models import GENERATORS

    *others, last = [spec.name for spec in GENERATORS.values() if spec.takes == inputs]
    return f"{', '.join(others)} or {last}" if others else last


def effective_norm(config: Sections) -> str | None:
    """The norm of the discriminator; None where it has no choice."""
    from fastgan.models import DISCRIMINATORS

    net = config.model.discriminator
    return net.norm or DISCRIMINATORS[net.name].default_norm


def _options(config: Sections, spec: GeneratorSpec) -> None:
    """Options of single generators: given where they are needed, and nowhere else."""
    from fastgan.models.registry import GENERATORS, get_field

    owners = {field: other.name for other in GENERATORS.values() for field in other.model_options}
    for field, owner in owners.items():
        value = get_field(config, field)
        if field in spec.model_options and value is None:
            raise ValueError(f"{field}: the model {spec.name} needs one")
        if field not in spec.model_options and value is not None:
            raise ValueError(
                f"{field}: only the model {owner} has this, and model.name is {spec.name}; leave it out or use "
                f"model.name={owner}"
            )


def _batch(config: Sections, spec: GeneratorSpec) -> None:
    if spec.arbitrary_style and config.data.batch < 2:
        raise ValueError(
            f"data.batch: the model {spec.name} learns a full and a lower strength from each batch; give "
            "data.batch=2 or more"
        )


def _discriminator(config: Sections) -> None:
    from fastgan.models import DISCRIMINATORS

    net = config.model.discriminator
    if net.norm is not None and DISCRIMINATORS[net.name].default_norm is None:
        choice = [spec.name for spec in DISCRIMINATORS.values() if spec.default_norm is not None]
        raise ValueError(
            f"model.discriminator.norm: only the discriminator {', '.join(choice)} has a choice, not {net.name}"
        )


def _style_windows(config: Sections) -> None:
    most = config.data.size // _STYLE_STRIDE
    if config.loss.style_window_weight and config.loss.style_windows > most:
        raise ValueError(
            f"loss.style_windows: the features of crops of {config.data.size} px are {most} x {most} where they are "
            f"fewest; give at most {most}"
        )


def _extra_losses(config: Sections) -> None:
    from fastgan.losses import LOSSES

    for name in config.loss.extra:
        if name not in LOSSES:
            known = ", ".join(LOSSES) or "none"
            raise ValueError(f"loss.extra.{name}: there is no such loss; those registered: {known}")


def _adversarial(config: Sections) -> None:
    loss, discriminator, quality = config.loss, config.optim.discriminator, config.quality
    norm = effective_norm(config)
    if len(set(loss.augment)) < len(loss.augment):
        raise ValueError(f"loss.augment: each kind once, got {', '.join(loss.augment)}")
    if loss.r1 and not loss.adversarial:
        raise ValueError("loss.r1: there is no discriminator to penalize; give loss.adversarial a weight above 0")
    if loss.r1 and norm == "batch":
        raise ValueError(
            "loss.r1: batch norm mixes the images whose gradients R1 penalizes one by one; add "
            "model.discriminator.norm=instance or none"
        )
    if quality.target is not None and not any(getattr(loss, term) for term in _STRUCTURE):
        raise ValueError(
            f"loss.content: is what quality.target_{quality.target[0]} turns, with {', '.join(_STRUCTURE[1:])}; "
            "give one a weight above 0"
        )
    if not any((loss.adversarial, *(getattr(loss, term) for term in _PERCEPTUAL[1:]), *loss.extra.values())):
        raise ValueError("loss.style: every weight is 0 and nothing would be learned; give one above 0")
    bounded = discriminator.clip_weights is not None or loss.r1 > 0 or config.model.discriminator.spectral_norm
    if loss.kind == "wgan" and loss.adversarial and not bounded:
        raise ValueError(
            "loss.kind: wgan needs a bounded discriminator; add optim.discriminator.clip_weights=0.01 or "
            "model.discriminator.spectral_norm=true" + (" or loss.r1=1" if norm != "batch" else "")
        )
    if loss.kind in ("hinge", "wgan") and (loss.real_label, loss.fake_label) != (1.0, 0.0):
        field = "loss.real_label" if loss.real_label != 1.0 else "loss.fake_label"
        raise ValueError(f"{field}: {loss.kind} has no labels; use loss.kind=bce or lsgan")
    if not loss.fake_label < loss.real_label:
        raise ValueError("loss.real_label: must be above loss.fake_label")


def _inputs(config: Sections, spec: GeneratorSpec) -> None:
    name = spec.name
    if spec.takes != "noise":
        if config.data.short_side is None:
            raise ValueError(
                f"data.short_side: only the model {models_that_take('noise')} can do without; give 384, for instance"
            )
        if config.data.style is None:
            raise ValueError(f"data.style: the model {name} needs a style; give data.style=FILE or demo")
        if config.data.style_variants and not spec.arbitrary_style:
            raise ValueError(
                f"data.style_variants: the model {name} learns one style, of which there are no variants; leave it at 0"
            )
        return
    if config.data.style is not None:
        raise ValueError(f"data.style: the model {name} makes images from noise and takes no style; leave it out")
    if config.quality.target is not None:
        raise ValueError(
            f"quality.target_{config.quality.target[0]}: the model {name} makes images from noise, and there is no "
            f"photograph that they should be like; use model.name={models_that_take('images')}"
        )
    for term in _PERCEPTUAL:
        if getattr(config.loss, term):
            raise ValueError(
                f"loss.{term}: the model {name} learns from its discriminator alone; leave it at 0 or use "
                f"model.name={models_that_take('images')}"
            )
    if not config.loss.adversarial:
        raise ValueError(f"loss.adversarial: is all that the model {name} learns from; give it a weight above 0")


def _memory(config: Sections, spec: GeneratorSpec) -> None:
    train = config.train
    if train.accumulate > 1 and (spec.has_batch_norm or effective_norm(config) == "batch"):
        raise ValueError(
            "train.accumulate: batch norm takes its moments from the whole batch; leave it at 1 or use another "
            "model.name"
        )
    if train.accumulate > 1 and spec.arbitrary_style:
        raise ValueError(
            f"train.accumulate: the strengths of a batch of the model {spec.name} go together; leave it at 1 or give a "
            "smaller data.batch"
        )
    if train.activation_checkpointing and spec.has_batch_norm:
        raise ValueError(
            "train.activation_checkpointing: batch norm would count each batch twice; leave it false or use another "
            "model.name"
        )
