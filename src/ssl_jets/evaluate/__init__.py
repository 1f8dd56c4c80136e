"""How good z is: task metrics, probes beside baselines, and the spread of z."""

from ssl_jets.evaluate.evaluation import Evaluation
from ssl_jets.evaluate.generated import GeneratedEvaluation, evaluate_generated
from ssl_jets.evaluate.of_model import evaluate_model
from ssl_jets.evaluate.of_models import Comparison, compare_models
from ssl_jets.evaluate.of_zfile import evaluate_z
from ssl_jets.evaluate.summary import comparison_table, generated_table, summary_table
from ssl_jets.evaluate.task import TaskMetrics, classify_metrics

__all__ = [
    "Comparison",
    "Evaluation",
    "GeneratedEvaluation",
    "TaskMetrics",
    "classify_metrics",
    "compare_models",
    "comparison_table",
    "evaluate_generated",
    "evaluate_model",
    "evaluate_z",
    "generated_table",
    "summary_table",
]
