"""From what the user gave to a ``Config``: files, ``--set``, and errors that name what was overridden."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from fastgan.config.schema import Config
from fastgan.config.yaml_core import MAX_DEPTH, YamlError, read_yaml
from fastgan.errors import InputError
from fastgan.utils.registry import load_plugins

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
#: A config file of more bytes than this is none.
_MAX_BYTES = 1 << 20


@dataclass
class _Origins:
    """Where each field was given: by the option that was typed, or in which line of the file."""

    file: Path | None = None
    lines: Mapping[str, int] = field(default_factory=dict)
    overridden: dict[str, str] = field(default_factory=dict)

    def source(self, name: str = "") -> str:
        """The file, with the line of a field or of what it lies in; without a file, ``config``."""
        if self.file is None:
            return "config"
        while name and name not in self.lines:
            name = name.rpartition(".")[0]
        return f"{self.file}: line {self.lines[name]}" if name else str(self.file)


def load_config(
    file: str | Path | None = None,
    overrides: Iterable[tuple[str, str, Any]] = (),
    base: Mapping[str, Any] | None = None,
) -> Config:
    """Defaults, then ``base``, then a YAML file, then ``overrides``: (what the user typed, dotted field, value).

    The defaults are those of the model that is named: the ``preset`` of its ``GeneratorSpec``.

    Raises:
        InputError: one line that names the file and line, or the option, and the field; or a plugin that cannot be
            imported.
    """
    file = None if file is None else Path(file)
    load_plugins()  # what they register has defaults; pydantic would wrap the error of one that cannot be imported
    fields: dict[str, Any] = {}
    _merge(fields, base or {})
    origins = _Origins(file)
    if file is not None:
        in_file, origins.lines = read_config_file(file)
        _merge(fields, in_file)
    for origin, name, value in overrides:
        _set_dotted(fields, origin, name, value)
        origins.overridden[name] = origin
    # Under what was given, all defaults: a section given in part (optim.generator.lr alone) keeps the rest of its own.
    values: dict[str, Any] = Config().model_dump()
    _merge(values, _preset_of(fields))
    _merge(values, fields)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise InputError(_format_error(error, origins)) from None


def parse_set(text: str) -> tuple[str, str, Any]:
    """``key=value`` of ``--set`` as an override; the value is read as YAML, as in a file."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise InputError(f"--set {text}: expected key=value, for instance checkpoint.every=100")
    try:
        return f"--set {text}", name.strip(), read_yaml(value)[0]
    except YamlError as error:
        raise InputError(f"--set {text}: {value!r} is not a YAML value ({error})") from None


def read_config_file(file: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The fields that a file gives, nested, and the line of each by its dotted name.

    Raises:
        InputError: it cannot be read, or is no YAML.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{file}: cannot read this config file ({error.strerror})") from None
    if len(content) > _MAX_BYTES:
        raise InputError(f"{file}: is larger than 1 MiB, as no config file is")
    try:
        loaded, lines = read_yaml(content)
    except YamlError as error:
        place = "" if error.line is None else f"line {error.line}: "
        raise InputError(f"{file}: {place}not valid YAML: {error}") from None
    if loaded is None:
        return {}, {}
    if not isinstance(loaded, dict):
        raise InputError(f"{file}: a config file is a mapping of fields, this is a {type(loaded).__name__}")
    return loaded, lines


def _preset_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of the model that ``fields`` name: its preset, and None for the options of other models."""
    from fastgan.models import GENERATORS

    model = fields.get("model")
    name = model.get("name") if isinstance(model, Mapping) else None
    preset: dict[str, Any] = {}
    if not isinstance(name, str) or name not in GENERATORS:  # another name is refused with the rest
        return preset
    for spec in GENERATORS.values():
        for option in spec.model_options:
            if option not in GENERATORS[name].model_options:
                _set_dotted(preset, option, option, None)
    _merge(preset, GENERATORS[name].preset)
    return preset


def _merge(into: dict[str, Any], values: Mapping[str, Any], depth: int = 0) -> None:
    """Take in ``values``; mappings are copied, so that ``into`` shares none with them."""
    if depth > MAX_DEPTH:
        raise InputError(f"config: a mapping that holds itself, or is nested more than {MAX_DEPTH} levels deep")
    for key, value in values.items():
        if isinstance(value, Mapping):
            if not isinstance(into.get(key), dict):
                into[key] = {}
            _merge(into[key], value, depth + 1)
        else:
            into[key] = value


def _set_dotted(values: dict[str, Any], origin: str, name: str, value: Any) -> None:
    *path, last = name.split(".")
    for part in path:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise InputError(f"{origin}: {name} is not a field of config.yaml")
    values[last] = value


def _format_error(error: ValidationError, origins: _Origins) -> str:
    errors = error.errors()
    overridden = origins.overridden
    renamed = [name for name in (".".join(map(str, e["loc"])) for e in errors) if name in RENAMED]
    if renamed:
        texts = ", ".join(f"{name} is now {RENAMED[name]}" for name in renamed)
        return f"{overridden.get(renamed[0]) or origins.source()}: has fields of an older fastgan: {texts}"
    first = errors[0]
    name = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    below = [other for other in overridden if name and other.startswith(f"{name}.")]
    if first["type"] == "extra_forbidden":
        origin = overridden.get(name) or (overridden[below[0]] if below else origins.source(name))
        return f"{origin}: there is no field {name}; {_fields_beside(name)}"
    if name not in overridden and below and "Value error" not in first["msg"]:
        return f"{overridden[below[0]]}: {below[0]} is not a field of config.yaml"
    if not name:  # combinations of the whole config name their fields in full, the one at fault first
        at_fault = message.partition(":")[0]
        mentioned = (overridden[other] for other in overridden if other in message)
        origin = overridden.get(at_fault) or next(mentioned, None) or origins.source(at_fault)
        return f"{origin}: {message}"
    # An error of a whole section names the fields that do not go together: of those, what the user typed.
    inside = [
        origin for other, origin in overridden.items() if other.rpartition(".")[0] == name and _last(other) in message
    ]
    origin = overridden.get(name) or next(iter(inside), None) or origins.source(name)
    value = "" if isinstance(first["input"], dict | BaseModel) else f", got {_shown(first['input'])}"
    return f"{origin}: {name}: {message[0].lower()}{message[1:]}{value}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _fields_beside(name: str) -> str:
    section: type[BaseModel] = Config
    *path, _ = name.split(".")
    for part in path:
        annotation = section.model_fields[part].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return f"{'.'.join(path)} has no fields"
        section = annotation
    owner = f"{'.'.join(path)} has" if path else "the fields are"
    return f"{owner} {', '.join(section.model_fields)}"
