"""Benchmarks: what ``fastgan bench`` runs, and ``python -m fastgan.bench`` where torch is all there is."""
