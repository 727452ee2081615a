"""Choice of device and dtype, and autocast."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from fastgan.errors import InputError
from fastgan.utils.choices import DEVICES, PRECISIONS, check_choice

#: Values of oneDNN's ONEDNN_MAX_CPU_ISA that leave it no bf16 instructions to train with. AVX2_VNNI_2 converts bf16,
#: for inference alone: oneDNN's ``has_training_support`` (src/cpu/platform.cpp) takes AVX-512 for it. AVX512_MIC is not
#: among them: oneDNN 3 has no such name, and ignores what it does not know.
_ONEDNN_WITHOUT_BF16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def select_device(name: str) -> torch.device:
    """``auto`` is the GPU if there is one. Raises InputError for another name or no GPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_choice("device", name, DEVICES)
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("train.device: cuda was asked for and torch sees no GPU; use auto or cpu")
    return torch.device(name)


def select_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of convolutions: ``auto`` is bf16 where the hardware has it, fp16 on older GPUs, else fp32.

    Raises:
        InputError: an unknown name; fp16 on a CPU.
    """
    if precision == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
        return torch.bfloat16 if cpu_has_bf16() else torch.float32
    check_choice("precision", precision, PRECISIONS)
    if precision == "fp16" and device.type == "cpu":
        raise InputError("precision fp16 needs a GPU; on a CPU use auto, bf16 or fp32")
    return _DTYPES[precision]


def to_device(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to a device, in place, with weights in the layout of the device's convolutions: channels_last on a
    GPU, unchanged on a CPU, where ``ops.conv2d`` transforms them anyway."""
    layout = torch.channels_last if device.type == "cuda" else torch.preserve_format
    return network.to(device=device, memory_format=layout)  # type: ignore[call-overload, no-any-return]


def cpu_has_bf16() -> bool:
    """True if this CPU multiplies bfloat16 in hardware (AVX-512 BF16 or AMX) and oneDNN may use it.

    Held below that by its own variable, oneDNN convolves bf16 by a plain loop: 620 ms where float32 takes 36 (64
    channels, 64 px, held to SSE4.1 on two cores of an EPYC with AVX-512 BF16, torch 2.14.1).
    """
    held_to = (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "").upper()
    if held_to in _ONEDNN_WITHOUT_BF16:
        return False
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if capabilities:
        return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(probe() for probe in probes if probe is not None)


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    """Autocast to ``dtype``; for float32 none, the caller's neither."""
    if device.type == "meta":  # which has none
        return nullcontext()
    if dtype == torch.float32:
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, dtype)


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The dtype that autocast is on for; None where it is off."""
    if device.type == "meta" or not torch.is_autocast_enabled(device.type):
        return None
    return torch.get_autocast_dtype(device.type)
