"""The model of ``config.yaml``: every field of a run, its default and its bounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fastgan.errors import InputError

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)


class GeneratorConfig(_Section):
    """``fast`` generator: see ``fastgan.models.FastGenerator``."""

    width: int = Field(32, ge=2, le=512)
    depth: int = Field(5, ge=1, le=64)
    stem: Literal["unshuffle", "conv9"] = "unshuffle"


class DiscriminatorConfig(_Section):
    """PatchGAN: see ``fastgan.models.PatchGAN``."""

    width: int = Field(32, ge=1, le=512)
    layers: int = Field(3, ge=1, le=5)


class ModelConfig(_Section):
    """Which networks, and how large."""

    name: Literal["fast"] = "fast"
    generator: GeneratorConfig = GeneratorConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    features: str = "vgg19"


class DataConfig(_Section):
    """What is trained on."""

    content: str = "demo"
    style: str = "demo"
    size: int = Field(256, ge=32, le=2048)
    batch: int = Field(4, ge=1, le=1024)
    short_side: int = Field(384, ge=32, le=4096)
    held_out: int = Field(8, ge=1, le=1000)
    max_broken: float = Field(0.5, ge=0, le=1)
    prefetch: int = Field(2, ge=0, le=64)


class LossConfig(_Section):
    """Weights of what the generator minimises; ``lambda_d`` is the article's lambda in L = L_G + lambda L_D."""

    adversarial: Weight = 0.1
    content: Weight = 0.03
    style: Weight = 10.0
    ssim: Weight = 4.5
    psnr: Weight = 0.0
    tv: Weight = 0.0
    lambda_d: Weight = 1.0
    temperature: float = Field(1.0, gt=0)
    content_layer: str = "relu3_1"


class AdamConfig(_Section):
    """Adam of one network."""

    lr: Rate
    beta1: float = Field(ge=0, lt=1)
    beta2: float = Field(0.99, ge=0, lt=1)


class OptimConfig(_Section):
    """Optimisers: a rate for each network (SPEC S4), shared warm-up and cosine decay over the run, EMA of G."""

    generator: AdamConfig = AdamConfig(lr=1e-3, beta1=0.9)
    discriminator: AdamConfig = AdamConfig(lr=2e-4, beta1=0.5)
    warmup: float = Field(0.05, ge=0, lt=1)
    final_lr: float = Field(0.0, ge=0, le=1)
    ema: float = Field(0.95, ge=0, lt=1)


class QualityConfig(_Section):
    """Quality-guided training (SPEC S10): at most one target; without one nothing is controlled."""

    target_ssim: float | None = Field(None, gt=0, lt=1)
    target_psnr: float | None = Field(None, gt=0, le=60)
    gain: float = Field(0.25, gt=0, le=10)
    smoothing: float = Field(0.9, ge=0, lt=1)
    every: int = Field(50, ge=1)

    @model_validator(mode="after")
    def _one_target(self) -> QualityConfig:
        if self.target_ssim is not None and self.target_psnr is not None:
            raise ValueError("give target_ssim or target_psnr, not both")
        return self


class TrainConfig(_Section):
    """How long, from what seed and in which arithmetic. Without a length a run has 2,000 steps."""

    steps: int | None = Field(None, ge=1)
    epochs: float | None = Field(None, gt=0)
    minutes: float | None = Field(None, gt=0)
    seed: int = Field(0, ge=0, lt=2**32)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: bool = False

    @model_validator(mode="after")
    def _one_length(self) -> TrainConfig:
        if sum(value is not None for value in (self.steps, self.epochs, self.minutes)) > 1:
            raise ValueError("give one of steps, epochs and minutes")
        return self


class CheckpointConfig(_Section):
    """Steps between checkpoints, and how many of the newest are kept."""

    every: int = Field(200, ge=1)
    keep: int = Field(2, ge=1)


class LogConfig(_Section):
    """Steps between sample pictures; whether TensorBoard files are written."""

    samples_every: int = Field(100, ge=1)
    tensorboard: bool = True


class Config(_Section):
    """A run. ``config.yaml`` in a run folder is this, whole."""

    task: Literal["stylize"] = "stylize"
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    quality: QualityConfig = QualityConfig()
    train: TrainConfig = TrainConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()

    @model_validator(mode="after")
    def _psnr_term(self) -> Config:
        if self.quality.target_psnr is not None and not self.loss.psnr:
            self.loss.psnr = self.loss.ssim  # a target needs a term that moves what it measures
        return self

    def to_yaml(self) -> str:
        """The text of ``config.yaml``; its paths are absolute, so that a run is resumed from any folder."""
        values = self.model_dump(mode="json")
        for section, field in (("data", "content"), ("data", "style"), ("model", "features")):
            if Path(values[section][field]).exists():
                values[section][field] = str(Path(values[section][field]).resolve())
        return yaml.safe_dump(values, sort_keys=False)


def load_config(
    file: Path | None = None, overrides: Iterable[tuple[str, str, Any]] = (), base: Mapping[str, Any] | None = None
) -> Config:
    """Defaults, then ``base``, then a YAML file, then ``overrides``: (what the user typed, dotted field, value).

    Raises:
        InputError: one line that names the file or option and the field.
    """
    # From the defaults, because a section that is given in part (optim.generator.lr alone) keeps the rest of its own.
    values: dict[str, Any] = Config().model_dump()
    _merge(values, base or {})
    if file is not None:
        _merge(values, _read_yaml(file))
    typed: dict[str, str] = {}
    for said, field, value in overrides:
        _put(values, said, field, value)
        typed[field] = said
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise InputError(_explain(error, typed, file)) from None


def parse_set(text: str) -> tuple[str, str, Any]:
    """``key=value`` of ``--set`` as an override; the value is read as YAML."""
    field, equals, value = text.partition("=")
    if not equals or not field.strip():
        raise InputError(f"--set {text}: expected key=value, for instance checkpoint.every=100")
    try:
        return f"--set {text}", field.strip(), yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):  # ValueError: a date such as 2020-13-45
        raise InputError(f"--set {text}: {value!r} is not a YAML value") from None


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: cannot read this config file ({error.strerror})") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise InputError(f"{file}: a config file is a mapping of fields, this is a {type(loaded).__name__}")
    return loaded


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = _copy(value) if isinstance(value, Mapping) else value


def _put(values: dict[str, Any], said: str, field: str, value: Any) -> None:
    *path, last = field.split(".")
    for part in path:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise InputError(f"{said}: {field} is not a field of config.yaml")
    values[last] = value


def _explain(error: ValidationError, typed: Mapping[str, str], file: Path | None) -> str:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    # An error of a whole section names the fields that do not go together: of those, what the user typed.
    inside = [said for name, said in typed.items() if name.rpartition(".")[0] == field and _last(name) in first["msg"]]
    if first["type"] == "extra_forbidden":  # of a section that does not exist
        inside += [said for name, said in typed.items() if name.startswith(f"{field}.")]
    where = typed.get(field) or next(iter(inside), None) or (str(file) if file is not None else "config")
    if first["type"] == "extra_forbidden":
        return f"{where}: there is no field {field}; {_fields_beside(field)}"
    message = first["msg"].removeprefix("Value error, ")
    given = "" if isinstance(first["input"], dict | BaseModel) else f", got {first['input']!r}"
    return f"{where}: {field}: {message[0].lower()}{message[1:]}{given}"


def _last(field: str) -> str:
    return field.rpartition(".")[2]


def _fields_beside(field: str) -> str:
    section: type[BaseModel] = Config
    *path, _ = field.split(".")
    for part in path:
        annotation = section.model_fields[part].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return f"{'.'.join(path)} has no fields"
        section = annotation
    place = f"{'.'.join(path)} has" if path else "the fields are"
    return f"{place} {', '.join(section.model_fields)}"
