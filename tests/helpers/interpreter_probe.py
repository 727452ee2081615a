"""Runs a kernel whose loop has computed bounds in Triton's interpreter.

Usage: ``TRITON_INTERPRET=1 python interpreter_probe.py``.

The interpreter of Triton 3.6 makes such a bound an array of one element and lets NumPy turn it into a number, which
NumPy 2.4 refuses.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def count_kernel(out, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    begin = tl.program_id(0) * BLOCK
    total = 0
    for _ in range(begin, tl.minimum(begin + BLOCK, n)):
        total += 1
    tl.store(out + tl.program_id(0), total)


if __name__ == "__main__":
    out = torch.zeros(2, dtype=torch.int32)
    count_kernel[(2,)](out, 6, 4)
    assert out.tolist() == [4, 2], out
