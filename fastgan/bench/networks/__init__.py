"""Benchmarks of the training step and of stylization."""
