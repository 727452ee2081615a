"""Where and with what a measurement was made."""

import json

import torch

from fastgan.profiling.environment import describe_environment


def test_it_names_the_machine_versions_and_commit() -> None:
    found = describe_environment(torch.device("cpu"), ("pytest", "a-package-that-nobody-has"))
    assert found["device"] == "cpu" and found["machine"] and found["threads"] >= 1 and found["cpus"] >= 1
    assert {"fastgan", "python", "torch", "pytest"} <= found["versions"].keys()
    assert "a-package-that-nobody-has" not in found["versions"]
    assert {"extension", "backend_forced", "commit", "date", "platform"} <= found.keys()
    json.dumps(found)
