"""Triton kernels: compiled ahead of time, and tuned."""
