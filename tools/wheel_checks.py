"""Checks that test_wheel.py runs inside an environment: the installed package, and not the checkout."""

import sys
from pathlib import Path

import torch
from torch import Tensor

import fastgan
from fastgan import ops
from fastgan.ops import _native

SHAPE = (2, 3, 37, 45)
CALLS = {
    "ssim": ("x", "y"),
    "psnr": ("x", "y"),
    "gram": ("x",),
    "instance_norm": ("x", "weight", "bias"),
    "bias_act": ("x", "bias"),
}


def value_and_gradients(op: str, inputs: dict[str, Tensor], backend: str) -> list[Tensor]:
    leaves = [inputs[name].detach().requires_grad_() for name in CALLS[op]]
    result = getattr(ops, op)(*leaves, backend=backend)
    cotangent = torch.linspace(-1, 1, result.numel()).view(result.shape) if result.dim() else torch.tensor(1.0)
    return [result.detach(), *torch.autograd.grad(result, leaves, cotangent)]


def check_values() -> None:
    inputs = {"x": torch.rand(SHAPE), "y": torch.rand(SHAPE), "weight": torch.rand(3), "bias": torch.rand(3)}
    for op in CALLS:
        native, reference = (value_and_gradients(op, inputs, backend) for backend in ("native", "reference"))
        for have, want in zip(native, reference, strict=True):
            torch.testing.assert_close(have, want, rtol=1e-4, atol=2e-5 * want.abs().max().item(), msg=f"{op} differs")


def check_compiled() -> None:
    x, y = torch.rand(SHAPE), torch.rand(SHAPE)
    compiled = torch.compile(lambda a, b: ops.ssim(a, b, backend="native"), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, y), ops.ssim(x, y, backend="reference"))


def check_triton() -> str:
    """Every Triton kernel compiles for sm_90 with this environment's Triton."""
    try:
        import triton
    except ImportError:
        return "no Triton"
    from fastgan.bench.triton import aot_compile
    from fastgan.bench.triton.aot_calls import CALLS as KERNELS

    rows = [row for _, found in aot_compile.tables(sorted(KERNELS), (90,)) for row in found]
    spilled = [row for row in rows if row["spilled"] and row["chosen"]]
    assert rows and not spilled, f"spilled: {spilled}"
    return f"Triton {triton.__version__} compiles {len(rows)} kernels for sm_90, none spilling"


def openmp_runtimes() -> set[str]:
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    return {line.split()[-1] for line in lines if "gomp" in line or "libomp" in line or "libiomp" in line}


def main() -> None:
    prefix = Path(sys.prefix).resolve()
    assert prefix in Path(fastgan.__file__).resolve().parents, f"not the wheel's: {fastgan.__file__}"
    extension = _native.extension().__file__
    assert extension is not None and prefix in Path(extension).resolve().parents, f"not the wheel's: {extension}"
    torch.manual_seed(0)
    check_values()
    check_compiled()
    compiled = check_triton()
    torch.mm(torch.rand(300, 300), torch.rand(300, 300))
    runtimes = openmp_runtimes()
    assert len(runtimes) <= 1, f"several OpenMP runtimes: {runtimes}"
    print(f"torch {torch.__version__}: native equals reference on {', '.join(CALLS)}, forward and gradients;")
    print(compiled)
    print(f"ssim compiles in one graph; one OpenMP runtime: {', '.join(runtimes) or 'not seen'}")


if __name__ == "__main__":
    main()
