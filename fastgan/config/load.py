"""From what the user gave to a ``Config``: files, ``--set``, and errors that name what was typed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from fastgan.config.schema import Config
from fastgan.errors import InputError

#: Fields of config.yaml that have had another name; a run folder from before is refused, and told so.
RENAMED = {
    "data.held_out": "data.val_images",
    "loss.r1_every": "loss.r1_interval",
    "optim.final_lr": "optim.min_lr_ratio",
    "quality.alarm": "quality.collapse_alarm",
    "quality.every": "eval.every",
    "train.checkpointing": "train.activation_checkpointing",
    "train.graphs": "train.cuda_graphs",
}


def load_config(
    file: Path | None = None, overrides: Iterable[tuple[str, str, Any]] = (), base: Mapping[str, Any] | None = None
) -> Config:
    """Defaults, then ``base``, then a YAML file, then ``overrides``: (what the user typed, dotted field, value).

    The defaults are those of the model that is named: the ``preset`` of its ``GeneratorSpec``.

    Raises:
        InputError: one line that names the file or option and the field.
    """
    fields: dict[str, Any] = {}
    _merge(fields, base or {})
    if file is not None:
        _merge(fields, _read_yaml(file))
    overridden: dict[str, str] = {}
    for origin, field, value in overrides:
        _set_dotted(fields, origin, field, value)
        overridden[field] = origin
    # Under what was given, all defaults: a section given in part (optim.generator.lr alone) keeps the rest of its own.
    values: dict[str, Any] = Config().model_dump()
    _merge(values, _preset_of(fields))
    _merge(values, fields)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise InputError(_format_error(error, overridden, file)) from None


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


def _preset_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of the model that ``fields`` name: its preset, and None for the options of other models."""
    from fastgan.models import GENERATORS

    model = fields.get("model")
    name = model.get("name") if isinstance(model, Mapping) else None
    preset: dict[str, Any] = {}
    if not isinstance(name, str) or name not in GENERATORS:  # another name is refused with the rest
        return preset
    for spec in GENERATORS.values():
        for field in spec.model_options:
            if field not in GENERATORS[name].model_options:
                _set_dotted(preset, field, field, None)
    _merge(preset, GENERATORS[name].preset)
    return preset


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = _copy(value) if isinstance(value, Mapping) else value


def _set_dotted(values: dict[str, Any], origin: str, field: str, value: Any) -> None:
    *path, last = field.split(".")
    for part in path:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise InputError(f"{origin}: {field} is not a field of config.yaml")
    values[last] = value


def _format_error(error: ValidationError, overridden: Mapping[str, str], file: Path | None) -> str:
    errors = error.errors()
    renamed = [name for name in (".".join(map(str, e["loc"])) for e in errors) if name in RENAMED]
    if renamed:
        source = overridden.get(renamed[0]) or (str(file) if file is not None else "config")
        return f"{source}: has fields of an older fastgan: {', '.join(f'{n} is now {RENAMED[n]}' for n in renamed)}"
    first = errors[0]
    field = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    below = [name for name in overridden if field and name.startswith(f"{field}.")]
    source = str(file) if file is not None else "config"
    if first["type"] == "extra_forbidden":
        origin = overridden.get(field) or (overridden[below[0]] if below else source)
        return f"{origin}: there is no field {field}; {_fields_beside(field)}"
    if field not in overridden and below and "Value error" not in first["msg"]:
        return f"{overridden[below[0]]}: {below[0]} is not a field of config.yaml"
    if not field:  # combinations of the whole config name their fields in full, the one at fault first
        origin = overridden.get(message.partition(":")[0]) or next(
            (overridden[name] for name in overridden if name in message), source
        )
        return f"{origin}: {message}"
    # An error of a whole section names the fields that do not go together: of those, what the user typed.
    inside = [
        origin for name, origin in overridden.items() if name.rpartition(".")[0] == field and _last(name) in message
    ]
    origin = overridden.get(field) or next(iter(inside), source)
    value = "" if isinstance(first["input"], dict | BaseModel) else f", got {first['input']!r}"
    return f"{origin}: {field}: {message[0].lower()}{message[1:]}{value}"


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
    owner = f"{'.'.join(path)} has" if path else "the fields are"
    return f"{owner} {', '.join(section.model_fields)}"
