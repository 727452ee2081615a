"""Fields that do not go together, each refused with what would."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastgan.config.schema import Config

#: Fields of ``model.generator`` that one model alone has.
_OWN = {"stem": "fast", "layer": "fusion", "z_dim": "dcgan"}
_PERCEPTUAL = ("content", "style", "ssim", "psnr", "tv")


def check_combinations(config: Config) -> None:
    """Raise ValueError, in one line that says what would work, for fields that do not go together."""
    for check in (_model, _discriminator, _noise, _adversarial, _memory):
        check(config)


def _model(config: Config) -> None:
    model = config.model
    if model.name == "fusion" and model.fusion is None:
        raise ValueError("model.fusion: the model fusion needs one of adain, convex, additive, mlp")
    if model.name != "fusion" and model.fusion is not None:
        raise ValueError(f"model.fusion: the model {model.name} fuses no features; use --model fusion")
    for field, owner in _OWN.items():
        value = getattr(model.generator, field)
        if model.name == owner and value is None:
            raise ValueError(f"model.generator.{field}: the model {owner} needs one")
        if model.name != owner and value is not None:
            raise ValueError(
                f"model.generator.{field}: only the model {owner} has this, and model.name is {model.name}"
            )
    if model.name == "fusion" and config.data.batch < 2:
        raise ValueError(
            "data.batch: the model fusion learns a full and a lower strength from each batch; give --batch 2 or more"
        )


def _discriminator(config: Config) -> None:
    net = config.model.discriminator
    if net.name == "dcgan" and net.norm is None:
        net.norm = "batch"
    if net.name != "dcgan" and net.norm is not None:
        raise ValueError(f"model.discriminator.norm: only the discriminator dcgan has a choice, not {net.name}")


def _adversarial(config: Config) -> None:
    loss, discriminator, quality = config.loss, config.optim.discriminator, config.quality
    if len(set(loss.augment)) < len(loss.augment):
        raise ValueError(f"loss.augment: each kind once, got {', '.join(loss.augment)}")
    if loss.r1 and not loss.adversarial:
        raise ValueError("loss.r1: there is no discriminator to penalise; give loss.adversarial a weight above 0")
    if loss.r1 and config.model.discriminator.norm == "batch":
        raise ValueError(
            "loss.r1: batch norm mixes the images whose gradients R1 penalises one by one; add "
            "--set model.discriminator.norm=instance or none"
        )
    if quality.target_ssim is not None and not loss.ssim:
        raise ValueError("loss.ssim: is what --target-ssim turns; give it a weight above 0")
    if not any((loss.adversarial, loss.style, loss.content, loss.ssim, loss.psnr, loss.tv)):
        raise ValueError("loss.style: every weight is 0 and nothing would be learnt; give one above 0")
    bounded = discriminator.clip_weights is not None or loss.r1 > 0 or config.model.discriminator.spectral_norm
    if loss.kind == "wgan" and loss.adversarial and not bounded:
        raise ValueError(
            "loss.kind: wgan needs a bounded discriminator; add --set optim.discriminator.clip_weights=0.01 or "
            "--set model.discriminator.spectral_norm=true"
            + (" or --set loss.r1=1" if config.model.discriminator.norm != "batch" else "")
        )
    if loss.kind in ("hinge", "wgan") and (loss.real_label, loss.fake_label) != (1.0, 0.0):
        field = "loss.real_label" if loss.real_label != 1.0 else "loss.fake_label"
        raise ValueError(f"{field}: {loss.kind} has no labels; use --set loss.kind=bce or lsgan")
    if not loss.fake_label < loss.real_label:
        raise ValueError("loss.real_label: must be above loss.fake_label")


def _noise(config: Config) -> None:
    if config.model.name != "dcgan":
        if config.data.short_side is None:
            raise ValueError("data.short_side: only the model dcgan can do without; give 384, for instance")
        if config.data.style is None:
            raise ValueError(f"data.style: the model {config.model.name} needs a style; give --style FILE or demo")
        return
    if config.data.style is not None:
        raise ValueError("data.style: the model dcgan makes images from noise and takes no style; leave it out")
    for target in ("target_ssim", "target_psnr"):
        if getattr(config.quality, target) is not None:
            raise ValueError(
                f"quality.{target}: the model dcgan makes images from noise, and there is no photograph that they "
                "should be like; use --model fast, fusion or article"
            )
    for name in _PERCEPTUAL:
        if getattr(config.loss, name):
            raise ValueError(
                f"loss.{name}: the model dcgan learns from its discriminator alone; leave it at 0 or use --model fast"
            )
    if not config.loss.adversarial:
        raise ValueError("loss.adversarial: is all that the model dcgan learns from; give it a weight above 0")


def _memory(config: Config) -> None:
    train, model = config.train, config.model
    if train.accumulate > 1 and (model.name == "dcgan" or model.discriminator.norm == "batch"):
        raise ValueError(
            "train.accumulate: batch norm takes its moments from the whole batch; leave it at 1 or use --model fast"
        )
    if train.accumulate > 1 and model.name == "fusion":
        raise ValueError(
            "train.accumulate: the strengths of a batch of the model fusion go together; leave it at 1 or give a "
            "smaller --batch"
        )
    if train.activation_checkpointing and model.name == "dcgan":
        raise ValueError(
            "train.activation_checkpointing: batch norm would count each batch twice; leave it false or use --model "
            "fast"
        )
