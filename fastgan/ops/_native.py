"""Lazy loader of the compiled extension `fastgan._C`, with an explained failure, and how its kernels are called.

Nothing is loaded before the first call that may use it. torch comes first, always: its libgomp is then the one that the
extension finds, and the process has a single OpenMP runtime.
"""

import importlib.util
import math
import os
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from fastgan.errors import InputError
from fastgan.ops import _checks
from fastgan.ops._registry import Backend, Least

#: What the kernels take, by device; the order is that of `Dtype` in csrc/common.h.
DTYPES = {
    "cpu": (torch.float32, torch.bfloat16),
    "cuda": (torch.float32, torch.bfloat16, torch.float16),
}
_CODES = {dtype: code for code, dtype in enumerate((*DTYPES["cuda"], torch.uint8))}
#: The order is that of `Activation` in csrc/common.h.
ACTIVATIONS: dict[str | None, int] = {name: code for code, name in enumerate(_checks.ACTIVATIONS)}

#: Smaller ones come from the C library's heap, which keeps them too.
_REUSED_BYTES = 1 << 20

View = tuple[int, int, int, int, int, int]

_loaded: tuple[ModuleType | None, str | None] | None = None


def _load() -> tuple[ModuleType | None, str | None]:
    global _loaded
    if _loaded is None:
        try:
            from fastgan import _C
        except ImportError as error:
            if importlib.util.find_spec("fastgan._C") is None:
                _loaded = None, "is not available: fastgan._C is not built (build it with `pip install .`)"
            else:
                _loaded = None, f"is not available: fastgan._C does not load ({error})"
        else:
            level = os.environ.get("FASTGAN_CPU_LEVEL", "")
            try:
                _C.set_level(level)
            except ValueError as error:
                raise InputError(f"FASTGAN_CPU_LEVEL: {error}") from None
            _C.set_idle_limit(_idle_limit())
            _loaded = _C, None
    return _loaded


def _idle_limit() -> int:
    """FASTGAN_IDLE_MB in bytes."""
    asked = os.environ.get("FASTGAN_IDLE_MB") or "512"
    if not asked.isdecimal() or len(asked) > 9:
        raise InputError(f"FASTGAN_IDLE_MB={asked}: must be a whole number of MiB, 0 to keep none")
    return int(asked) << 20


def extension() -> ModuleType:
    """The extension; raises RuntimeError with the reason where it cannot be had."""
    module, reason = _load()
    if module is None:
        raise RuntimeError(f"the native backend {reason}")
    return module


def unavailable(device: str = "cpu") -> str | None:
    """Why the extension cannot be used on a device, or None when it can."""
    module, reason = _load()
    if module is None or device != "cuda":
        return reason
    if not hasattr(module, "ssim_forward_cuda"):
        return "is not available: fastgan._C is built without CUDA kernels (FASTGAN_CUDA=1 builds them, with nvcc)"
    return None if torch.cuda.is_available() else "is not available: torch finds no CUDA device"


# What torch.compiler.assume_constant_result sets; that function imports the whole compiler. Tracing cannot follow an
# import that fails, so a compiled function must take this answer as it is.
unavailable._dynamo_marked_constant = True  # type: ignore[attr-defined]


def backend(
    op: str,
    function: Callable[..., Any],
    *,
    gradient_order: int | None = 1,
    devices: tuple[str, ...] = ("cpu", "cuda"),
    dtypes: dict[str, tuple[torch.dtype, ...]] = DTYPES,
    least: Least | None = None,
) -> Backend:
    """The native backend of an op: what all kernels have in common. `least` is of CPU tensors."""
    return Backend(
        op,
        "native",
        function,
        devices=devices,
        dtypes=dtypes,
        gradient_order=gradient_order,
        unavailable=unavailable,
        least={} if least is None else {"cpu": least},
    )


def build_info() -> dict[str, Any]:
    """Version, commit, compiler, OpenMP, CPU levels and CUDA archs of the build; or `unavailable`: the reason."""
    module, reason = _load()
    return {"unavailable": reason} if module is None else dict(module.build_info())


def room_like(
    x: Tensor,
    needed: bool = True,
    dtype: torch.dtype | None = None,
    layout: torch.memory_format = torch.preserve_format,
) -> Tensor:
    """Room for a tensor like `x`, with its strides where they are dense; empty where it is not needed.

    On CPU large ones lie in memory of the extension's own, which is used again as soon as the tensor is gone and of
    which at most FASTGAN_IDLE_MB (512) lie idle: fresh pages cost as much time as the kernel that fills them.
    """
    dtype = dtype or x.dtype
    if not needed:
        return x.new_empty(0, dtype=dtype)
    if _from_torch(x, x.shape, dtype):
        return torch.empty_like(x, dtype=dtype, memory_format=layout)
    return _reused(x.shape, torch.empty_like(x, device="meta", memory_format=layout).stride(), dtype)


def room(
    x: Tensor, shape: Sequence[int], dtype: torch.dtype, memory_format: torch.memory_format = torch.contiguous_format
) -> Tensor:
    """The same for a tensor of four dimensions of its own, where `x` is."""
    if _from_torch(x, shape, dtype):
        return torch.empty(shape, dtype=dtype, device=x.device, memory_format=memory_format)
    strides = torch.empty(shape, device="meta", memory_format=memory_format).stride()
    return _reused(shape, strides, dtype)


def _from_torch(x: Tensor, shape: Sequence[int], dtype: torch.dtype) -> bool:
    return type(x) is not Tensor or x.device.type != "cpu" or math.prod(shape) * dtype.itemsize < _REUSED_BYTES


def _reused(shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype) -> Tensor:
    made = torch.from_dlpack(extension().empty(shape, strides, _CODES[dtype]))
    if torch.are_deterministic_algorithms_enabled() and torch.utils.deterministic.fill_uninitialized_memory:  # type: ignore[attr-defined]
        made.fill_(math.nan if dtype.is_floating_point else torch.iinfo(dtype).max)  # as torch.empty does
    return made


def code(dtype: torch.dtype) -> int:
    """A dtype as the kernels take it."""
    return _CODES[dtype]


def view(tensor: Tensor | None) -> View | None:
    """A four-dimensional tensor as the kernels take it."""
    if tensor is None:
        return None
    a, b, c, d = tensor.stride()
    return tensor.data_ptr(), _CODES[tensor.dtype], a, b, c, d


def pointer(tensor: Tensor | None) -> int:
    """Of a contiguous tensor; 0 for None."""
    if tensor is None:
        return 0
    if not tensor.is_contiguous():
        raise ValueError(f"expected a contiguous tensor, got strides {tensor.stride()}")
    return tensor.data_ptr()


def floats(tensor: Tensor | None) -> int:
    """The pointer of a contiguous float32 tensor; 0 for None."""
    if tensor is None:
        return 0
    if tensor.dtype != torch.float32 or not tensor.is_contiguous():
        raise ValueError(f"expected contiguous float32, got {tensor.dtype} with strides {tensor.stride()}")
    return tensor.data_ptr()


def flat(tensor: Tensor) -> tuple[int, int]:
    """Pointer and dtype of a contiguous tensor whose shape the kernel has no use for."""
    if not tensor.is_contiguous():
        raise ValueError(f"expected a contiguous tensor, got strides {tensor.stride()}")
    return tensor.data_ptr(), _CODES[tensor.dtype]


def call(
    kernel: str, device: torch.device, *arguments: Any, workspace: Callable[[ModuleType], int] | None = None
) -> None:
    """Runs a kernel on a device: on CPU with torch's thread count, on a GPU on torch's current stream.

    `workspace` says how many bytes of working memory the GPU's kernel needs.
    """
    module = extension()
    if device.type == "cpu":
        getattr(module, kernel)(*arguments, torch.get_num_threads())
        return
    with torch.cuda.device(device):
        if workspace is not None:
            memory = torch.empty(workspace(module), dtype=torch.uint8, device=device)
            arguments = (*arguments, memory.data_ptr())
        getattr(module, kernel + "_cuda")(*arguments, torch.cuda.current_stream(device).cuda_stream)


def check(first: Tensor, *others: Tensor) -> None:
    """Guards the kernels' memory against direct calls of the registered ops, which pass no public function.

    Raises ValueError unless all are non-empty, four-dimensional, of one shape, on one device and of a served dtype.
    """
    for tensor in (first, *others):
        if tensor is None:  # torch lets None pass for a Tensor of a schema
            raise TypeError("expected tensors, got None")
        dtypes = DTYPES.get(tensor.device.type, ())
        if tensor.dtype not in dtypes or tensor.dim() != 4 or tensor.numel() == 0:
            raise ValueError(
                "expected non-empty (N, C, H, W) tensors, float32 or bfloat16 (float16 on CUDA), "
                f"got {tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"
            )
        if tensor.shape != first.shape or tensor.device != first.device:
            raise ValueError(
                f"expected equal shapes on one device, got {tuple(first.shape)} on {first.device} "
                f"and {tuple(tensor.shape)} on {tensor.device}"
            )


def check_numbers(name: str, tensor: Tensor | None, like: Tensor, *shapes: tuple[int, ...]) -> None:
    """The same for what else a kernel reads: float32 numbers of one of the shapes, on the device of `like`."""
    if tensor is None:
        return
    if tuple(tensor.shape) not in shapes or tensor.dtype != torch.float32 or tensor.device != like.device:
        raise ValueError(
            f"{name} must be float32 {' or '.join(map(str, shapes))} on {like.device}, "
            f"got {tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"
        )
