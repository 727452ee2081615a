"""Callbacks: the interface, and the writers of a run's files."""
