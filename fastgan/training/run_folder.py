"""The run folder: what lies where."""

from __future__ import annotations

from pathlib import Path

from fastgan.errors import InputError
from fastgan.utils.files import remove_temp_files, write_text


class RunFolder:
    """Paths of a run. Making this object checks and touches nothing; ``create`` makes the folder.

    Raises:
        InputError: ``path`` exists and is not empty, without ``resume``; or, with it, is no run folder.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        self.samples = path / "samples"
        self.plots = path / "plots"
        try:
            if path.exists() and not path.is_dir():
                raise InputError(f"--out {path}: is a file; give a folder")
            if path.exists() and any(path.iterdir()):
                if not resume:
                    raise InputError(f"--out {path}: already exists; add --resume to go on, or give another folder")
                if not self.config.is_file():
                    raise InputError(f"--out {path}: is not a run folder (no config.yaml), nothing to resume")
        except OSError as error:
            raise InputError(f"--out {path}: cannot be used ({error.strerror})") from None

    def create(self, config: str) -> None:
        """Make the folder and write ``config.yaml``. Raises InputError where that is not allowed."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.samples.mkdir(exist_ok=True)
            remove_temp_files(self.path)
        except OSError as error:
            raise InputError(f"--out {self.path}: cannot be created ({error.strerror})") from None
        write_text(self.config, config)
