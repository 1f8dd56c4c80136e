"""Evaluation of models, of z files and of generated jets: metrics, probes, baselines, typed results."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl_jets.evaluation.compare import compare_models
    from ssl_jets.evaluation.comparison import Comparison
    from ssl_jets.evaluation.generated import GeneratedEvaluation, evaluate_generated
    from ssl_jets.evaluation.metrics.classification import ClassificationMetrics, classification_metrics
    from ssl_jets.evaluation.one import evaluate_model
    from ssl_jets.evaluation.result import Evaluation
    from ssl_jets.evaluation.scores import evaluate_scores
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

_MODULES = {
    "ClassificationMetrics": "metrics.classification",
    "Comparison": "comparison",
    "Evaluation": "result",
    "GeneratedEvaluation": "generated",
    "classification_metrics": "metrics.classification",
    "compare_models": "compare",
    "comparison_table": "tables",
    "evaluate_generated": "generated",
    "evaluate_model": "one",
    "evaluate_scores": "scores",
    "evaluate_z": "zfile",
    "generated_table": "tables",
    "summary_table": "tables",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: results are read without torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
