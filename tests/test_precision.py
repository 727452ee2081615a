"""Which device and arithmetic a run takes."""

import pytest
import torch

from fastgan.errors import InputError
from fastgan.precision import autocast, autocast_dtype, cpu_has_bf16, select_device, select_dtype

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_by_name(name: str, dtype: torch.dtype) -> None:
    assert select_dtype(name, CPU) == dtype


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(InputError, match=r"^precision fp16 needs a GPU; on a CPU use auto, bf16 or fp32"):
        select_dtype("fp16", CPU)
    assert select_dtype("fp16", GPU) == torch.float16


@pytest.mark.parametrize("has", [True, False])
def test_auto_on_a_cpu(monkeypatch: pytest.MonkeyPatch, has: bool) -> None:
    monkeypatch.setattr("fastgan.precision.cpu_has_bf16", lambda: has)
    assert select_dtype("auto", CPU) == (torch.bfloat16 if has else torch.float32)


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((7, 0), torch.float16), ((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)],
)
def test_auto_on_a_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert select_dtype("auto", GPU) == dtype


@pytest.mark.parametrize("flags", [{"avx512_bf16": True}, {"amx_bf16": True}, {"avx2": True}, {"avx512_bf16": False}])
def test_bf16_by_the_cpus_own_word(monkeypatch: pytest.MonkeyPatch, flags: dict[str, bool]) -> None:
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags, raising=False)
    assert cpu_has_bf16() is (flags.get("avx512_bf16", False) or "amx_bf16" in flags)


@pytest.mark.parametrize(
    ("isa", "has"),
    [
        ("SSE41", False),
        ("avx2", False),
        ("AVX2_VNNI_2", False),
        ("AVX512_CORE_BF16", True),
        ("AVX512_MIC", True),
        ("ALL", True),
    ],
)
@pytest.mark.parametrize("variable", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_no_bf16_where_onednn_is_held_below_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, isa: str, has: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, isa)
    assert cpu_has_bf16() is has
    assert select_dtype("auto", CPU) == (torch.bfloat16 if has else torch.float32)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert select_device("auto") == select_device("cpu") == CPU
    with pytest.raises(InputError, match="torch sees no GPU; use auto or cpu"):
        select_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert select_device("auto") == select_device("cuda") == GPU and select_device("cpu") == CPU


def test_unknown_names() -> None:
    with pytest.raises(InputError, match="precision fp8: expected one of auto, fp32, bf16, fp16"):
        select_dtype("fp8", CPU)
    with pytest.raises(InputError, match="device tpu: expected one of auto, cpu, cuda"):
        select_device("tpu")


def test_autocast() -> None:
    x = torch.rand(4, 4)
    with autocast(CPU, torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
    with autocast(CPU, torch.float32):
        assert (x @ x).dtype == torch.float32


def test_float32_turns_the_callers_autocast_off() -> None:
    x = torch.rand(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert autocast_dtype(CPU) == torch.bfloat16
        with autocast(CPU, torch.float32):
            assert (x @ x).dtype == torch.float32 and autocast_dtype(CPU) is None
        assert (x @ x).dtype == torch.bfloat16


def test_a_device_without_autocast() -> None:
    meta = torch.device("meta")
    with autocast(meta, torch.float32), autocast(meta, torch.bfloat16):
        assert (torch.ones(2, 2, device=meta) @ torch.ones(2, 2, device=meta)).dtype == torch.float32
    assert autocast_dtype(meta) is None
