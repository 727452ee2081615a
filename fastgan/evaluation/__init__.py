"""Measuring a trained model, and the report of a run."""

from fastgan.evaluation.evaluator import EvalResult, Evaluator, NoiseEvaluator

__all__ = ["EvalResult", "Evaluator", "NoiseEvaluator"]
