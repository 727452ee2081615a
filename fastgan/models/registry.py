"""The registry of generators and discriminators: each network's file has its ``register`` call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from fastgan.utils.registry import Registry


@dataclass(frozen=True)
class GeneratorSpec:
    """A generator, and what the rest of the package has to know of it.

    Attributes:
        name: of ``model.name`` and of saved models.
        network: its class, called as ``network(width, depth, **options)``. Instances have ``config``, the arguments to
            make them again; those that take images also ``stride`` and ``receptive_radius`` (see ``FastGenerator``),
            those that take noise ``z_dim`` and ``size``.
        options: keyword argument of ``network`` -> field of config.yaml, for instance ``model.generator.stem``.
        preset: fields of config.yaml that have other defaults than those of ``Config()``, nested.
        takes: ``"images"``: photographs (N, 3, H, W) are stylized; ``"noise"``: images are generated from (N, z_dim).
        arbitrary_style: it takes VGG-19 features, style codes and strengths, as ``FusionGenerator`` does.
        has_batch_norm: an image's result depends on the others of its batch.
    """

    name: str
    network: type[nn.Module]
    options: Mapping[str, str] = field(default_factory=dict)
    preset: Mapping[str, Any] = field(default_factory=dict)
    takes: Literal["images", "noise"] = "images"
    arbitrary_style: bool = False
    has_batch_norm: bool = False

    @property
    def model_options(self) -> list[str]:
        """The fields of ``options`` that belong to the model and not to the data; null where another model is named."""
        return [field for field in self.options.values() if field.startswith("model.")]


@dataclass(frozen=True)
class DiscriminatorSpec:
    """A discriminator.

    Attributes:
        name: of ``model.discriminator.name``.
        network: makes it, ``network(width, depth, **options)``: images (N, 3, H, W) to logits. Instances have
            ``min_side``, pixels, and ``max_side`` where they have one size.
        options: keyword argument of ``network`` -> field of config.yaml.
        default_norm: the norm that ``model.discriminator.norm: null`` means; None where there is no choice.
    """

    name: str
    network: Callable[..., nn.Module]
    options: Mapping[str, str] = field(default_factory=dict)
    default_norm: str | None = None


GENERATORS: Registry[GeneratorSpec] = Registry("generator")
DISCRIMINATORS: Registry[DiscriminatorSpec] = Registry("discriminator")


def register_generator(spec: GeneratorSpec, *, default: bool = False) -> GeneratorSpec:
    """Make a generator known by its name: for ``--model``, saved models and ``fastgan.load``."""
    if not isinstance(spec.network, type):
        raise ValueError(f"the network of the generator {spec.name} must be a class, got {spec.network!r}")
    return GENERATORS.register(spec.name, spec, default=default)


def register_discriminator(spec: DiscriminatorSpec, *, default: bool = False) -> DiscriminatorSpec:
    """Make a discriminator known by its name, for ``model.discriminator.name``."""
    return DISCRIMINATORS.register(spec.name, spec, default=default)


def get_field(config: Any, field: str) -> Any:
    """The value of a dotted field; None for one that a section does not have."""
    value = config
    for name in field.split("."):
        value = getattr(value, name, None)
    return value


def options_of(spec: GeneratorSpec | DiscriminatorSpec, config: Any) -> dict[str, Any]:
    """The keyword arguments of a network that a config gives; what is None keeps the network's own default."""
    values = {keyword: get_field(config, field) for keyword, field in spec.options.items()}
    return {keyword: value for keyword, value in values.items() if value is not None}


def spec_of(generator: nn.Module) -> GeneratorSpec:
    """The spec of a generator.

    Raises:
        ValueError: its class is not registered.
    """
    specs = GENERATORS.values()
    matching = [spec for spec in specs if type(generator) is spec.network]
    matching += [spec for spec in specs if isinstance(generator, spec.network)]
    if not matching:
        raise ValueError(
            f"{type(generator).__name__} is not registered; see fastgan.models.registry.register_generator"
        )
    return matching[0]
