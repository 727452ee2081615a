"""Inference: load a trained model, stylize with it, sample from it."""

from fastgan.inference.model_files import load
from fastgan.inference.sampler import Sampler
from fastgan.inference.stylizer import Stylizer

__all__ = ["Sampler", "Stylizer", "load"]
