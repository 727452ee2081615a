"""Reserved words: what stands for something built in, where a path may be given as well.

One rule tells them apart, by how a value is written and never by what lies on the disk: a text that equals a reserved
word is the word, and everything else is a path, ``./demo`` too. A ``Path`` object is always a path.
"""

from __future__ import annotations

import os
from collections.abc import Collection

#: The photographs and the style image that need no download: in ``data.content`` and ``data.style``.
DEMO = "demo"
DATA_WORDS = (DEMO,)
#: Weights of VGG-19 that are found by name: in ``model.features``.
FEATURES_WORDS = ("vgg19", "torchvision", "random")
#: The model that comes with fastgan: in ``fastgan.load``, ``fastgan stylize`` and ``train.init``.
ANY_STYLE = "any-style"
MODEL_WORDS = (ANY_STYLE,)


def is_reserved(value: str | os.PathLike[str] | None, words: Collection[str]) -> bool:
    """Whether ``value`` is one of ``words``, and so no path."""
    return isinstance(value, str) and value in words


def path_text(path: str | os.PathLike[str]) -> str:
    """The text of a path, written such that it is read as one.

    >>> from pathlib import Path
    >>> path_text("demo"), path_text(Path("demo")), path_text(Path("photos"))
    ('demo', './demo', 'photos')
    """
    text, words = os.fspath(path), (*DATA_WORDS, *FEATURES_WORDS, *MODEL_WORDS)
    return text if isinstance(path, str) or text not in words else f".{os.sep}{text}"


def absolute_text(value: str, words: Collection[str]) -> str:
    """The absolute form of a path that exists; one of ``words``, and what does not exist, as it is."""
    return value if is_reserved(value, words) or not os.path.exists(value) else os.path.realpath(value)
