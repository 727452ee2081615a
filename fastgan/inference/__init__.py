"""Inference: load a trained model, stylize with it, sample from it."""

from fastgan.inference.model_files import find_model, load
from fastgan.inference.sampler import Sampler
from fastgan.inference.stylizer import Stylizer

__all__ = ["Sampler", "Stylizer", "find_model", "load"]
