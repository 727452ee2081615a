"""The inputs of a run besides its config: kept in its state, and compared when the run is resumed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgan.data import ImagePath, ShardImage, Split, list_styles
from fastgan.errors import InputError
from fastgan.models.vgg import weights_sha256
from fastgan.training.run_length import RunLength
from fastgan.training.state import TrainState
from fastgan.utils.files import open_regular
from fastgan.version import __version__

if TYPE_CHECKING:
    from fastgan.config.schema import Config

#: Styles named in messages of one kind at most.
_NAMED = 5


class Digests(dict[ImagePath, str]):
    """SHA-256 of images' bytes, each read once; "" of those that cannot be read."""

    def __missing__(self, path: ImagePath) -> str:
        self[path] = digest = _sha256(path)
        return digest


def describe(
    config: Config, length: RunLength, split: Split | None = None, digests: Digests | None = None
) -> dict[str, Any]:
    """Collect what a run is made from, as plain values.

    Args:
        config: of the run.
        length: of the run.
        split: the photographs; None where data comes as an iterable.
        digests: of those that have been hashed already.

    Returns:
        ``fastgan``, the version; ``photographs``, count and SHA-256 of the names below ``data.content``, or None;
        ``val``, name -> SHA-256 of each validation photograph, ``val_in_train``, whether these are trained on, and
        ``val_is_trained_on``, whether they may have been; ``styles``, name -> SHA-256; ``features``, the SHA-256 of
        the weights of VGG-19; ``length``, steps or minutes.
    """
    digests = Digests() if digests is None else digests
    listed, val, in_train = None, {}, False
    if split is not None:
        in_train = not set(split.train).isdisjoint(split.val)
        names = _names([*split.train, *split.val], config.data.content)
        unique = sorted(set(names.values()))
        listed = {"count": len(unique), "sha256": hashlib.sha256("\0".join(unique).encode()).hexdigest()}
        val = {names[path]: digests[path] for path in split.val}
    style = config.data.style
    styles: dict[str, str] = {}
    if style is not None:
        paths = list_styles(style)
        styles = {name: digests[path] for path, name in _names(paths, style).items()}
    minutes = config.train.minutes
    return {
        "fastgan": __version__,
        "photographs": listed,
        "val": val,
        "val_in_train": in_train,
        "val_is_trained_on": split is not None and split.shared,
        "styles": styles,
        "features": weights_sha256(config.model.features),
        "length": {"steps": length.steps} if minutes is None else {"minutes": minutes},
    }


def update(
    state: TrainState, before: Mapping[str, Any] | None, now: dict[str, Any], rates: tuple[float, float] | None
) -> list[str]:
    """Keep what a run is made from now in its state, and add what has changed to ``state.changes``.

    Returns:
        The lines of ``changes``; none where ``before`` is None, for a run that is not resumed.
    """
    state.inputs = now
    lines = [] if before is None else changes(before, now, rates)
    state.changes += [(state.global_step, text) for text in lines]
    return lines


def split_as_before(
    paths: Sequence[ImagePath], split: Split, content: str, at_most: int, before: Mapping[str, Any], digests: Digests
) -> Split:
    """The split of ``paths`` that holds out what ``before``, of ``describe``, says was held out.

    One that is gone or has other bytes is left out. Where none is left, or nothing is known, it is ``split``, and
    counts as trained on.
    """
    known: Mapping[str, str] = before.get("val", {})
    names = _names(paths, content)
    val = [path for path in paths if names[path] in known and digests[path] in (known[names[path]], "")][:at_most]
    if not val:
        return split._replace(shared=True)
    excluded = set() if before["val_in_train"] else set(val)
    return Split([path for path in paths if path not in excluded], val, before["val_is_trained_on"])


def changes(before: Mapping[str, Any], now: Mapping[str, Any], rates: tuple[float, float] | None = None) -> list[str]:
    """Tell what differs, a line each.

    Args:
        before, now: of ``describe``.
        rates: the generator's learning rate in the last step before and in the next; None where there is none.
    """
    if not before:
        return ["the checkpoint does not say which photographs were held out: those measured count as trained on"]
    lines = []
    if before["fastgan"] != now["fastgan"]:
        lines.append(f"fastgan was {before['fastgan']}, and is {now['fastgan']}")
    lines += _changes_of_photographs(before, now)
    if before["features"] != now["features"]:
        digests = [_short(inputs["features"]) for inputs in (before, now)]
        lines.append(f"the VGG-19 weights are others: {digests[0]} before, {digests[1]} now")
    for verb, names in _compare(before["styles"], now["styles"]).items():
        lines += [f"style {name}: {verb}" for name in names[:_NAMED]]
        if len(names) > _NAMED:
            lines.append(f"{len(names) - _NAMED} more styles: {verb}")
    if before["length"] != now["length"] and rates is not None:
        lines.append(
            f"the run has {_length(now)}, before {_length(before)}: the learning rates follow the new length, and go "
            f"on at {rates[1]:.2g} for the generator, after {rates[0]:.2g}"
        )
    return lines


def _length(inputs: Mapping[str, Any]) -> str:
    ((unit, count),) = inputs["length"].items()
    return f"{count:g} {unit}" if unit == "minutes" else f"{count} {unit}"


def _changes_of_photographs(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    lines = []
    listed, known = before["photographs"], now["photographs"]
    if listed != known:
        count = [("an iterable" if part is None else f"{part['count']}") for part in (listed, known)]
        lines.append(f"the photographs are others: {count[0]} before, {count[1]} now")
    lost = [name for name, digest in before["val"].items() if now["val"].get(name) != digest]
    if lost and known is not None:
        left = "the others are" if len(lost) < len(before["val"]) else "others, which count as trained on, are"
        lines.append(f"of {len(before['val'])} validation photographs {len(lost)} are no longer used: {left} measured")
    return lines


def _compare(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, list[str]]:
    return {
        "was replaced since the run was saved": [name for name in now if before.get(name, now[name]) != now[name]],
        "is new since the run was saved": [name for name in now if name not in before],
        "is gone since the run was saved": [name for name in before if name not in now],
    }


def _names(paths: Iterable[ImagePath], source: str) -> dict[ImagePath, str]:
    """The names of images below the folder, shard or file that they are of: the same wherever that lies."""
    root = str(Path(source))
    names = {}
    for path in paths:
        text = str(path)
        below = text.removeprefix(root).lstrip("/") if text.startswith(root) else ""
        # Bytes that are no text come out as escapes, which can be saved and hashed.
        names[path] = (below or path.name).encode(errors="backslashreplace").decode()
    return names


def _sha256(path: ImagePath) -> str:
    """The hash of an image's bytes; "" where they cannot be read."""
    try:
        if isinstance(path, ShardImage):
            return hashlib.sha256(path.read()).hexdigest()
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    except (InputError, OSError, EOFError):
        return ""


def _short(digest: str | None) -> str:
    return "random" if digest is None else f"sha256 {digest[:12]}..."
