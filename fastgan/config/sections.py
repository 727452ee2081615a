"""The sections of ``config.yaml``: every field of a run, its default and its bounds."""

from __future__ import annotations

import numbers
import os
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from fastgan.config.targets import TARGET_METRICS
from fastgan.utils.choices import DeviceName, PrecisionName
from fastgan.utils.reserved import DEMO, path_text


def _plain(value: Any) -> Any:
    """A number of NumPy as Python's own, and a ``Path`` as a text that is read as one; anything else as it is."""
    if isinstance(value, os.PathLike):
        return path_text(value)
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def _no_nul(path: str) -> str:
    if "\0" in path:
        raise ValueError("A path has no NUL in it")
    return path


def _switch(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):  # to a Literal 1 is True
        raise ValueError("Input should be 'auto', true or false")
    return value


Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1)]
Switch = Annotated[Literal["auto", True, False], BeforeValidator(_switch)]
FusionMode = Literal["adain", "convex", "additive", "mlp", "wct"]
#: A path, or a word of ``fastgan.utils.reserved``.
PathText = Annotated[str, Field(min_length=1), AfterValidator(_no_nul)]


class Section(BaseModel):
    """A mapping of fields in ``config.yaml``; another field than these is refused, and so is a value of another type: a
    text or a truth value is no number."""

    model_config = ConfigDict(extra="forbid", strict=True, validate_assignment=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _plain_values(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: _plain(item) for key, item in value.items()}
        return [_plain(item) for item in value] if isinstance(value, list | tuple) else _plain(value)


def _default_generator() -> str:
    from fastgan.models import GENERATORS

    return GENERATORS.default


def _default_discriminator() -> str:
    from fastgan.models import DISCRIMINATORS

    return DISCRIMINATORS.default


class GeneratorConfig(Section):
    """Sizes of the generator, and options that single generators have: ``stem`` (``fast``), ``layer`` of VGG-19 whose
    features are fused (``fusion``), ``z_dim`` (``dcgan``); a generator of another package may have more."""

    model_config = ConfigDict(extra="allow")

    width: int = Field(32, ge=2, le=512)
    depth: int = Field(5, ge=1, le=64)
    stem: Literal["unshuffle", "conv9"] | None = "unshuffle"
    layer: Literal["relu2_1", "relu3_1", "relu4_1", "relu5_1"] | None = None
    z_dim: int | None = Field(None, ge=1, le=4096)

    @model_validator(mode="after")
    def _known_options(self) -> GeneratorConfig:
        if self.model_extra:
            from fastgan.models import GENERATORS

            options = {field for spec in GENERATORS.values() for field in spec.model_options}
            for name in self.model_extra:
                if f"model.generator.{name}" not in options:
                    known = ", ".join(type(self).model_fields)
                    raise ValueError(f"there is no field model.generator.{name}; it has {known}")
        return self


class DiscriminatorConfig(Section):
    """Name and sizes of the discriminator; ``norm`` is an option of ``dcgan``. See ``fastgan.models``."""

    name: str = Field(default_factory=_default_discriminator)
    width: int = Field(32, ge=1, le=512)
    depth: int = Field(1, ge=1, le=5)
    norm: Literal["batch", "instance", "none"] | None = None
    spectral_norm: bool = False


class ModelConfig(Section):
    """Names and sizes of the networks."""

    name: str = Field(default_factory=_default_generator)
    fusion: FusionMode | None = None
    generator: GeneratorConfig = Field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = Field(default_factory=DiscriminatorConfig)
    features: PathText = "vgg19"


class DataConfig(Section):
    """The training data. ``workers`` None starts as many processes as suit the device. ``style_variants`` is the number
    of styles that are made of those of ``style`` for a network for any style: crops, recolorings, blends, patterns."""

    content: PathText = DEMO
    style: PathText | None = DEMO
    style_variants: int = Field(0, ge=0, le=400)
    size: int = Field(256, ge=32, le=2048)
    batch: int = Field(4, ge=1, le=1024)
    short_side: int | None = Field(384, ge=32, le=4096)
    val_images: int = Field(8, ge=1, le=1000)
    max_broken: float = Field(0.5, ge=0, le=1)
    prefetch: int = Field(2, ge=0, le=64)
    workers: int | None = Field(None, ge=0, le=64)


class LossConfig(Section):
    """Weights of the generator's losses; ``lambda_d`` is the article's lambda in L = L_G + lambda L_D.

    ``content`` (features of ``content_layer``), ``luminance`` (light and dark, averaged over 8 px), ``ssim`` and
    ``psnr`` keep the photograph; a target of ``quality`` turns them together.
    ``kind``, the labels and ``temperature`` (which goes to ``temperature_end`` over the run) shape the adversarial
    losses; ``r1`` is the weight of the discriminator's gradient penalty, taken every ``r1_interval`` steps; ``augment``
    names the changes to real and fake images before the discriminator sees them. ``style_window_weight`` is the share
    of the style's loss that is the mean over ``style_windows`` x ``style_windows`` windows of the picture; the rest is
    the whole picture's. ``identity`` is, of a network for any style, the weight of the difference from the photograph
    (SSIM and mean absolute) at strength 0. ``extra`` has weights of further loss terms by name, see
    ``fastgan.losses.register_loss``.
    """

    kind: Literal["bce", "hinge", "lsgan", "wgan"] = "bce"
    adversarial: Weight = 0.0
    content: Weight = 2.0
    style: Weight = 10.0
    style_windows: int = Field(2, ge=1, le=64)
    style_window_weight: float = Field(0.3, ge=0, le=1)
    ssim: Weight = 0.0
    psnr: Weight = 0.0
    luminance: Weight = 1.0
    identity: Weight = 3.0
    tv: Weight = 0.0
    lambda_d: Weight = 1.0
    temperature: float = Field(1.0, gt=0)
    temperature_end: float | None = Field(None, gt=0)
    real_label: float = Field(1.0, ge=0, le=1)
    fake_label: float = Field(0.0, ge=0, le=1)
    r1: Weight = 0.0
    r1_interval: int = Field(1, ge=1, le=1000)
    augment: list[Literal["color", "translation", "cutout"]] = []
    content_layer: str = "relu2_1"
    extra: dict[str, Weight] = {}


class OptimizerConfig(Section):
    """The optimizer of one network. ``beta1`` is the momentum of all three, ``beta2`` the decay of the mean square of
    Adam and RMSprop. ``clip_weights`` bounds every parameter after each step, ``clip_grad`` the gradient's norm."""

    name: Literal["adam", "rmsprop", "sgd"] = "adam"
    lr: Rate
    beta1: float = Field(ge=0, lt=1)
    beta2: float = Field(0.99, ge=0, lt=1)
    clip_weights: float | None = Field(None, gt=0)
    clip_grad: float | None = Field(None, gt=0)


class OptimConfig(Section):
    """Optimizers: a rate for each network (SPEC S4), shared warm-up and cosine decay over the run, EMA of G."""

    generator: OptimizerConfig = OptimizerConfig(lr=1e-3, beta1=0.9)
    discriminator: OptimizerConfig = OptimizerConfig(lr=2e-4, beta1=0.5)
    warmup: float = Field(0.05, ge=0, lt=1)
    min_lr_ratio: float = Field(0.0, ge=0, le=1)
    ema: float = Field(0.95, ge=0, lt=1)


class QualityConfig(Section):
    """Quality-guided training (SPEC S10): at most one target; without one nothing is controlled.

    ``target_ssim`` and ``target_psnr`` (dB) name how much of the photograph is left, ``target_lpips`` (AlexNet; extra
    ``quality``) how far the eye is from it, ``target_coverage`` in which share of the picture the style is.

    Where something asks for it, the averaged generator is measured every ``eval.every`` steps: a target; ``keep_best``,
    which makes the model that of the best measurement and not the last; ``patience``, which ends the run after so many
    measurements without a better one; ``rollback``, which takes the run back when a measurement is so many times worse
    than the best. ``collapse_alarm`` watches for collapse (SPEC S19).
    """

    target_ssim: float | None = Field(None, gt=0, lt=1)
    target_psnr: float | None = Field(None, gt=0, le=60)
    target_coverage: float | None = Field(None, gt=0, lt=1)
    target_lpips: float | None = Field(None, gt=0, lt=1)
    gain: float = Field(0.25, gt=0, le=10)
    smoothing: float = Field(0.9, ge=0, lt=1)
    keep_best: bool = False
    patience: int | None = Field(None, ge=1)
    rollback: float | None = Field(None, gt=1)
    collapse_alarm: bool = True

    @model_validator(mode="after")
    def _one_target(self) -> QualityConfig:
        names = [f"target_{name}" for name in TARGET_METRICS if getattr(self, f"target_{name}") is not None]
        if len(names) > 1:
            raise ValueError(f"give one target, got {' and '.join(names)}")
        return self

    @property
    def target(self) -> tuple[str, float] | None:
        """The name of ``TARGET_METRICS`` and the value of the target; None without one."""
        values = {name: getattr(self, f"target_{name}") for name in TARGET_METRICS}
        return next(((name, value) for name, value in values.items() if value is not None), None)


class EvalConfig(Section):
    """Steps between evaluations of the averaged generator on the images held out of training."""

    every: int = Field(50, ge=1)


class TrainConfig(Section):
    """Length, seed, device and precision of training. Without a length a run has 2,000 steps.

    ``init``: a run or model whose generator the run begins with; everything else is fresh.
    ``compile``: ``torch.compile`` the networks; ``auto`` where that saves time within the run. ``cuda_graphs``: replay
    the step as a CUDA graph, on a GPU. ``accumulate``: micro-batches that a batch is split into, and
    ``activation_checkpointing``: recompute the activations of the generator; both save memory.
    """

    steps: int | None = Field(None, ge=1)
    epochs: float | None = Field(None, gt=0)
    minutes: float | None = Field(None, gt=0)
    seed: int = Field(0, ge=0, lt=2**32)
    init: PathText | None = None
    device: DeviceName = "auto"
    precision: PrecisionName = "auto"
    compile: Switch = "auto"
    cuda_graphs: Switch = "auto"
    accumulate: int = Field(1, ge=1, le=1024)
    activation_checkpointing: bool = False

    @model_validator(mode="after")
    def _one_length(self) -> TrainConfig:
        if sum(value is not None for value in (self.steps, self.epochs, self.minutes)) > 1:
            raise ValueError("give one of steps, epochs and minutes")
        return self


class CheckpointConfig(Section):
    """Steps between checkpoints, and how many of the newest are kept."""

    every: int = Field(200, ge=1)
    keep: int = Field(2, ge=1)


class LogConfig(Section):
    """Steps between sample pictures; whether TensorBoard files are written."""

    samples_every: int = Field(100, ge=1)
    tensorboard: bool = True
