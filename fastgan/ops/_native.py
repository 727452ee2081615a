"""Lazy loader of the compiled extension `fastgan._C`, and helpers to call its kernels.

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
from fastgan.ops._registry import Backend, MinNumel

#: Dtypes that the kernels support, by device, in the order of `Dtype` in csrc/common/types.h.
DTYPES = {
    "cpu": (torch.float32, torch.bfloat16),
    "cuda": (torch.float32, torch.bfloat16, torch.float16),
}
_DTYPE_CODES = {dtype: code for code, dtype in enumerate((*DTYPES["cuda"], torch.uint8))}
#: In the order of `Activation` in csrc/common/types.h.
ACTIVATIONS: dict[str | None, int] = {name: code for code, name in enumerate(_checks.ACTIVATIONS)}

#: Smaller tensors are allocated by torch: the C library's heap reuses their memory too.
_MIN_POOL_BYTES = 1 << 20

TensorArg = tuple[int, int, int, int, int, int]

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
    text = os.environ.get("FASTGAN_IDLE_MB") or "512"
    if not text.isdecimal() or len(text) > 9:
        raise InputError(f"FASTGAN_IDLE_MB={text}: must be a whole number of MiB, 0 to keep none")
    return int(text) << 20


def extension() -> ModuleType:
    """The extension; raises RuntimeError with the reason where it cannot be had."""
    module, reason = _load()
    if module is None:
        raise RuntimeError(f"the native backend {reason}")
    return module


def unavailable_reason(device: str = "cpu") -> str | None:
    """Reason why the extension cannot be used on a device, or None when it can."""
    module, reason = _load()
    if module is None or device != "cuda":
        return reason
    if not hasattr(module, "ssim_forward_cuda"):
        return "is not available: fastgan._C is built without CUDA kernels (FASTGAN_CUDA=1 builds them, with nvcc)"
    return None if torch.cuda.is_available() else "is not available: torch finds no CUDA device"


# The mark of torch.compiler.assume_constant_result; that function imports the whole compiler. Tracing cannot follow an
# import that fails, so a compiled function must take this answer as it is.
unavailable_reason._dynamo_marked_constant = True  # type: ignore[attr-defined]


def backend(
    op: str,
    function: Callable[..., Any],
    *,
    gradient_order: int | None = 1,
    devices: tuple[str, ...] = ("cpu", "cuda"),
    dtypes: dict[str, tuple[torch.dtype, ...]] = DTYPES,
    min_numel: MinNumel | None = None,
) -> Backend:
    """The native backend of an op: what all kernels have in common. `min_numel` applies to CPU tensors."""
    return Backend(
        op,
        "native",
        function,
        devices=devices,
        dtypes=dtypes,
        gradient_order=gradient_order,
        unavailable_reason=unavailable_reason,
        min_numel={} if min_numel is None else {"cpu": min_numel},
    )


def build_info() -> dict[str, Any]:
    """Version, commit, compiler, OpenMP, CPU levels and CUDA archs of the build; or `unavailable`: the reason."""
    module, reason = _load()
    return {"unavailable": reason} if module is None else dict(module.build_info())


def empty_like(
    x: Tensor,
    needed: bool = True,
    dtype: torch.dtype | None = None,
    layout: torch.memory_format = torch.preserve_format,
) -> Tensor:
    """An uninitialized tensor like `x`, with its strides where they are dense; no elements where it is not needed.

    On CPU large tensors come from the extension's buffer pool, which reuses memory as soon as a tensor is freed and
    keeps at most FASTGAN_IDLE_MB (512) idle: fresh pages cost as much time as the kernel that fills them.
    """
    dtype = dtype or x.dtype
    if not needed:
        return x.new_empty(0, dtype=dtype)
    if _uses_torch_allocator(x, x.shape, dtype):
        return torch.empty_like(x, dtype=dtype, memory_format=layout)
    return _from_pool(x.shape, torch.empty_like(x, device="meta", memory_format=layout).stride(), dtype)


def empty(
    x: Tensor, shape: Sequence[int], dtype: torch.dtype, memory_format: torch.memory_format = torch.contiguous_format
) -> Tensor:
    """An uninitialized four-dimensional tensor on the device of `x`; memory as in `empty_like`."""
    if _uses_torch_allocator(x, shape, dtype):
        return torch.empty(shape, dtype=dtype, device=x.device, memory_format=memory_format)
    strides = torch.empty(shape, device="meta", memory_format=memory_format).stride()
    return _from_pool(shape, strides, dtype)


def _uses_torch_allocator(x: Tensor, shape: Sequence[int], dtype: torch.dtype) -> bool:
    return type(x) is not Tensor or x.device.type != "cpu" or math.prod(shape) * dtype.itemsize < _MIN_POOL_BYTES


def _from_pool(shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype) -> Tensor:
    tensor = torch.from_dlpack(extension().empty(shape, strides, _DTYPE_CODES[dtype]))
    if torch.are_deterministic_algorithms_enabled() and torch.utils.deterministic.fill_uninitialized_memory:  # type: ignore[attr-defined]
        tensor.fill_(math.nan if dtype.is_floating_point else torch.iinfo(dtype).max)  # as torch.empty does
    return tensor


def dtype_code(dtype: torch.dtype) -> int:
    """The number by which the kernels know a dtype."""
    return _DTYPE_CODES[dtype]


def tensor_arg(tensor: Tensor | None) -> TensorArg | None:
    """A four-dimensional tensor as a kernel argument: pointer, dtype and strides; None for None."""
    if tensor is None:
        return None
    a, b, c, d = tensor.stride()
    return tensor.data_ptr(), _DTYPE_CODES[tensor.dtype], a, b, c, d


def data_ptr(tensor: Tensor | None) -> int:
    """The pointer of a contiguous tensor; 0 for None."""
    if tensor is None:
        return 0
    if not tensor.is_contiguous():
        raise ValueError(f"expected a contiguous tensor, got strides {tensor.stride()}")
    return tensor.data_ptr()


def float32_ptr(tensor: Tensor | None) -> int:
    """The pointer of a contiguous float32 tensor; 0 for None."""
    if tensor is None:
        return 0
    if tensor.dtype != torch.float32 or not tensor.is_contiguous():
        raise ValueError(f"expected contiguous float32, got {tensor.dtype} with strides {tensor.stride()}")
    return tensor.data_ptr()


def flat_arg(tensor: Tensor) -> tuple[int, int]:
    """Pointer and dtype of a contiguous tensor whose shape the kernel does not need."""
    if not tensor.is_contiguous():
        raise ValueError(f"expected a contiguous tensor, got strides {tensor.stride()}")
    return tensor.data_ptr(), _DTYPE_CODES[tensor.dtype]


def call(
    kernel: str, device: torch.device, *arguments: Any, workspace: Callable[[ModuleType], int] | None = None
) -> None:
    """Run a kernel on a device: on CPU with torch's thread count, on a GPU on torch's current stream.

    `workspace` gives the bytes of working memory that the GPU kernel needs.
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


def check(x: Tensor, *others: Tensor) -> None:
    """Guard the kernels' memory against direct calls of the registered ops, which bypass the public functions.

    Raises ValueError unless all are non-empty, four-dimensional, of one shape, on one device and of a served dtype.
    """
    for tensor in (x, *others):
        if tensor is None:  # torch lets None pass for a Tensor of a schema
            raise TypeError("expected tensors, got None")
        dtypes = DTYPES.get(tensor.device.type, ())
        if tensor.dtype not in dtypes or tensor.dim() != 4 or tensor.numel() == 0:
            raise ValueError(
                "expected non-empty (N, C, H, W) tensors, float32 or bfloat16 (float16 on CUDA), "
                f"got {tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"
            )
        if tensor.shape != x.shape or tensor.device != x.device:
            raise ValueError(
                f"expected equal shapes on one device, got {tuple(x.shape)} on {x.device} "
                f"and {tuple(tensor.shape)} on {tensor.device}"
            )


def check_numbers(name: str, tensor: Tensor | None, like: Tensor, *shapes: tuple[int, ...]) -> None:
    """Raise ValueError unless `tensor` is None or float32 of one of the shapes, on the device of `like`."""
    if tensor is None:
        return
    if tuple(tensor.shape) not in shapes or tensor.dtype != torch.float32 or tensor.device != like.device:
        raise ValueError(
            f"{name} must be float32 {' or '.join(map(str, shapes))} on {like.device}, "
            f"got {tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"
        )
