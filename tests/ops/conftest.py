"""The emulated CUDA kernels, built once a session."""

from cuda_emulator.library import emulated

__all__ = ["emulated"]
