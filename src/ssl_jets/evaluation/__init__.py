"""Evaluation of models, of z files and of generated jets: metrics, probes, baselines, typed results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssl_jets.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from ssl_jets.evaluation.compare import compare_models
    from ssl_jets.evaluation.comparison import Comparison
    from ssl_jets.evaluation.generated.compare import GeneratedEvaluation, evaluate_generated
    from ssl_jets.evaluation.metrics.classification import ClassificationMetrics, classification_metrics
    from ssl_jets.evaluation.result import Evaluation
    from ssl_jets.evaluation.scores import evaluate_scores
    from ssl_jets.evaluation.single_model import evaluate_model
    from ssl_jets.evaluation.tables import comparison_table, generated_table, summary_table
    from ssl_jets.evaluation.zfile import evaluate_z

__all__ = [
    "ClassificationMetrics",
    "Comparison",
    "Evaluation",
    "GeneratedEvaluation",
    "classification_metrics",
    "compare_models",
    "comparison_table",
    "evaluate_generated",
    "evaluate_model",
    "evaluate_scores",
    "evaluate_z",
    "generated_table",
    "summary_table",
]

__getattr__ = lazy_names(
    __name__,
    {
        "metrics.classification": (
            "ClassificationMetrics",
            "classification_metrics",
        ),
        "comparison": ("Comparison",),
        "result": ("Evaluation",),
        "generated.compare": (
            "GeneratedEvaluation",
            "evaluate_generated",
        ),
        "compare": ("compare_models",),
        "tables": (
            "comparison_table",
            "generated_table",
            "summary_table",
        ),
        "single_model": ("evaluate_model",),
        "scores": ("evaluate_scores",),
        "zfile": ("evaluate_z",),
    },
)
