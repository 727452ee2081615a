"""The CUDA kernels, compiled for the emulator beside this file and called through ctypes."""

import ctypes
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from helpers.machine import require
from torch import Tensor

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[2] / "csrc"
DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


class CTensor(ctypes.Structure):
    """fastgan::Tensor."""

    _fields_ = (("data", ctypes.c_void_p), ("dtype", ctypes.c_int), ("stride", ctypes.c_int64 * 4))

    @classmethod
    def of(cls, tensor: Tensor | None) -> "CTensor":
        if tensor is None:
            return cls()
        return cls(tensor.data_ptr(), DTYPES[tensor.dtype], (ctypes.c_int64 * 4)(*tensor.stride()))


Argument = Tensor | CTensor | Sequence[int] | float | None


class Emulated:
    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))

    def call(self, function: str, *arguments: Argument) -> None:
        """Tensors pass as their memory, CTensor as fastgan::Tensor, tuples as shapes, None as a null pointer."""
        run = getattr(self.library, function)
        run.restype = ctypes.c_char_p
        error = run(*map(_as_c, arguments))
        if error is not None:
            raise RuntimeError(error.decode())

    @contextmanager
    def reversed_threads(self) -> Iterator[None]:
        """Runs the threads of a block in the opposite order: the same bits, unless a barrier is missing."""
        self.library.reverse_thread_order(ctypes.c_bool(True))
        yield
        self.library.reverse_thread_order(ctypes.c_bool(False))


def _as_c(argument: Argument) -> object:
    match argument:
        case Tensor():
            return ctypes.c_void_p(argument.data_ptr())
        case CTensor():
            return ctypes.byref(argument)
        case float():
            return ctypes.c_double(argument)
        case int():
            return ctypes.c_int64(argument)
        case None:
            return ctypes.c_void_p()
        case _:
            return ctypes.byref((ctypes.c_int64 * len(argument))(*argument))


def build(folder: Path, *flags: str) -> Path:
    """Each file by itself, two at a time."""
    units = [*sorted(CSRC.glob("*/*_cuda.cu")), *sorted(HERE.glob("interface*.cpp"))]
    options = ["-std=c++17", "-O1", "-fPIC", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-DFASTGAN_CUDA"]
    options += ["-I", str(HERE), "-I", str(CSRC), *flags]
    objects = [folder / f"{unit.name}.o" for unit in units]
    command = ["g++", *options, "-x", "c++", "-c"]
    for first in range(0, len(units), 2):
        pairs = zip(units[first : first + 2], objects[first : first + 2], strict=True)
        running = [subprocess.Popen([*command, str(unit), "-o", str(to)], stderr=subprocess.PIPE) for unit, to in pairs]
        for process in running:
            _, errors = process.communicate()
            assert process.returncode == 0, errors.decode()[:4000]
    path = folder / "emulated.so"
    subprocess.run(["g++", "-shared", *flags, *map(str, objects), "-o", str(path)], check=True)
    return path


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Emulated:
    require("g++")
    return Emulated(build(tmp_path_factory.mktemp("cuda_emulator")))
