"""The config of a run: ``config.yaml``, ``--set``, and every field's default and bounds."""

from fastgan.config.load import load_config, parse_set, read_config_file
from fastgan.config.schema import Config

__all__ = ["Config", "load_config", "parse_set", "read_config_file"]
