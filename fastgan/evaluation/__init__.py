"""Measuring a trained model, and the report of a run."""

from fastgan.evaluation.evaluator import Evaluator, Measures, NoiseEvaluator

__all__ = ["Evaluator", "Measures", "NoiseEvaluator"]
