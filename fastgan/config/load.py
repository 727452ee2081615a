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
    given: dict[str, Any] = {}
    _merge(given, base or {})
    if file is not None:
        _merge(given, _read_yaml(file))
    typed: dict[str, str] = {}
    for said, field, value in overrides:
        _put(given, said, field, value)
        typed[field] = said
    # Under what was given, all defaults: a section given in part (optim.generator.lr alone) keeps the rest of its own.
    values: dict[str, Any] = Config().model_dump()
    _merge(values, _preset_of(given))
    _merge(values, given)
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


def _preset_of(given: Mapping[str, Any]) -> Mapping[str, Any]:
    from fastgan.models import GENERATORS

    model = given.get("model")
    name = model.get("name") if isinstance(model, Mapping) else None
    return (
        GENERATORS[name].preset if isinstance(name, str) and name in GENERATORS else {}
    )  # another name is refused with the rest


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
    errors = error.errors()
    renamed = [name for name in (".".join(map(str, e["loc"])) for e in errors) if name in RENAMED]
    if renamed:
        source = typed.get(renamed[0]) or (str(file) if file is not None else "config")
        return f"{source}: has fields of an older fastgan: {', '.join(f'{n} is now {RENAMED[n]}' for n in renamed)}"
    first = errors[0]
    field = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    below = [name for name in typed if field and name.startswith(f"{field}.")]
    source = str(file) if file is not None else "config"
    if first["type"] == "extra_forbidden":
        said = typed.get(field) or (typed[below[0]] if below else source)
        return f"{said}: there is no field {field}; {_fields_beside(field)}"
    if field not in typed and below and "Value error" not in first["msg"]:
        return f"{typed[below[0]]}: {below[0]} is not a field of config.yaml"
    if not field:  # combinations of the whole config name their fields in full, the one at fault first
        said = typed.get(message.partition(":")[0]) or next((typed[name] for name in typed if name in message), source)
        return f"{said}: {message}"
    # An error of a whole section names the fields that do not go together: of those, what the user typed.
    inside = [said for name, said in typed.items() if name.rpartition(".")[0] == field and _last(name) in message]
    said = typed.get(field) or next(iter(inside), source)
    given = "" if isinstance(first["input"], dict | BaseModel) else f", got {first['input']!r}"
    return f"{said}: {field}: {message[0].lower()}{message[1:]}{given}"


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
