"""How good z is: task metrics, probes beside baselines, and the spread of z."""

from ssl_jets.evaluation.compare import Comparison, compare_models
from ssl_jets.evaluation.generated import GeneratedEvaluation, evaluate_generated
from ssl_jets.evaluation.metrics.classification import ClassificationMetrics, classification_metrics
from ssl_jets.evaluation.one import evaluate_model
from ssl_jets.evaluation.result import Evaluation
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
    "evaluate_z",
    "generated_table",
    "summary_table",
]
