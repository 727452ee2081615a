"""The same work in plain PyTorch."""
