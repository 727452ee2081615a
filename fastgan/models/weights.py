"""Weights in files, of strangers too: looked at before they are read, and nothing made that they do not fill."""

from __future__ import annotations

import os
import threading
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor
from torch.nn.modules import module as registration

from fastgan.errors import InputError, first_line
from fastgan.utils.files import open_regular
from fastgan.utils.format import dtype_name

#: Bytes of a file of weights at most: the largest generator that the config allows has some tenth of it.
MAX_WEIGHTS_BYTES = 4 << 30
#: Bytes of the header of a safetensors file at most: some hundred thousand tensors.
MAX_HEADER_BYTES = 8 << 20
#: What weights are kept in.
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
#: The same by the names of safetensors, and that of counts (batches of a BatchNorm).
_DTYPES = {**dict(zip(("F64", "F32", "F16", "BF16"), FLOATS, strict=True)), "I64": torch.int64}


class TensorInfo(NamedTuple):
    """A tensor as a file's header has it; ``dtype`` is None for one that no network has."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None

    @property
    def numel(self) -> int:
        """The number of its elements."""
        count = 1
        for side in self.shape:
            count *= side
        return count


class WeightsFile:
    """A safetensors file, or with the suffix ``.pth`` one of ``torch.save``, which is read as plain tensors alone.

    Args:
        path: the file.

    Attributes:
        infos: its tensors by name; of a safetensors file its header is all that has been read.

    Raises:
        InputError: no regular file, too large, damaged, or another kind of file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pickled: dict[str, Tensor] | None = None
        if path.suffix == ".pth":
            self._pickled = _read_pickled(path)
            self.infos = {name: TensorInfo(tuple(value.shape), value.dtype) for name, value in self._pickled.items()}
        else:
            self.infos = _read_header(path)

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Some of the tensors. Raises InputError for one with numbers that are not finite in float32."""
        if self._pickled is not None:
            tensors = {name: self._pickled[name] for name in names}
        else:
            from safetensors import safe_open

            try:
                with safe_open(self.path, framework="pt") as file:
                    tensors = {name: file.get_tensor(name) for name in names}
            except Exception as error:
                raise InputError(f"{self.path}: cannot be read ({first_line(error)[:200]})") from None
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not tensor.float().isfinite().all():
                raise InputError(f"{self.path}: {name} has numbers that are not finite; the weights are damaged")
        return tensors

    def check(self, expected: Mapping[str, Tensor]) -> None:
        """Compare names, shapes and kinds of numbers with the tensors that a network has.

        Raises:
            InputError: they differ; the message says where.
        """
        if difference := self._difference(expected):
            raise InputError(f"{self.path}: of another network than the description says ({difference})")

    def _difference(self, expected: Mapping[str, Tensor]) -> str | None:
        if missing := sorted(expected.keys() - self.infos.keys()):
            return f"{missing[0]} is missing"
        if unexpected := sorted(self.infos.keys() - expected.keys()):
            return f"{unexpected[0][:100]!r} is not part of it"
        for name, tensor in expected.items():
            info = self.infos[name]
            if info.shape != tuple(tensor.shape):
                return f"{name} is {_shape(info.shape)} in the file and {_shape(tensor.shape)} in the network"
            allowed = FLOATS if tensor.is_floating_point() else (tensor.dtype,)
            if info.dtype not in allowed:
                return f"{name} is not of {' or '.join(map(dtype_name, allowed))}"
        return None


@contextmanager
def construction_limit(infos: Mapping[str, TensorInfo]) -> Iterator[None]:
    """Within it, a network far larger than ``infos`` raises ValueError while this thread makes it.

    A parameter is looked at before its memory is touched, so that neither a great width nor a great depth takes any.
    """
    thread = threading.get_ident()
    # Far from exact: a network may make what it throws away. Exact is the comparison afterwards.
    units, elements = 8 * len(infos) + 1000, 2 * sum(info.numel for info in infos.values()) + (1 << 24)

    def count(module: Any, name: str, value: Any) -> None:
        nonlocal units, elements
        if threading.get_ident() != thread:  # hooks are those of the process
            return
        units -= 1
        if isinstance(value, Tensor):
            elements -= value.numel()
        if units < 0 or elements < 0:
            raise ValueError("a network much larger than the weights")

    with ExitStack() as hooks:
        for register in (
            registration.register_module_parameter_registration_hook,
            registration.register_module_buffer_registration_hook,
            registration.register_module_module_registration_hook,
        ):
            hooks.callback(register(count).remove)
        yield


def _read_header(path: Path) -> dict[str, TensorInfo]:
    from safetensors import safe_open

    with open_regular(path) as file:
        _check_size(path, file)
        if int.from_bytes(file.read(8), "little") > MAX_HEADER_BYTES:
            raise InputError(f"{path}: damaged, or not a safetensors file (its header is too long)")
    try:
        with safe_open(path, framework="pt") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  it is no dict
            return {
                name: TensorInfo(tuple(part.get_shape()), _DTYPES.get(part.get_dtype())) for name, part in parts.items()
            }
    except Exception as error:
        raise InputError(f"{path}: damaged, or not a safetensors file ({first_line(error)[:200]})") from None


def _read_pickled(path: Path) -> dict[str, Tensor]:
    with open_regular(path) as file:
        _check_size(path, file)
        try:
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as parts:
                    if any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist()):
                        raise ValueError("compressed")  # torch compresses nothing, and few bytes may become many
            file.seek(0)
            state: Any = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise InputError(f"{path}: damaged, or no file of weights ({type(error).__name__})") from None
    if not isinstance(state, Mapping):
        raise InputError(f"{path}: damaged, or no file of weights ({type(state).__name__})")
    plain = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    return {
        name: value for name, value in plain.items() if value.layout == torch.strided and value.device.type == "cpu"
    }


def _check_size(path: Path, file: BinaryIO) -> None:
    size = os.fstat(file.fileno()).st_size
    if size > MAX_WEIGHTS_BYTES:
        raise InputError(f"{path}: too large, {size:,} bytes; at most {MAX_WEIGHTS_BYTES:,} are read")


def _shape(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "a scalar"
