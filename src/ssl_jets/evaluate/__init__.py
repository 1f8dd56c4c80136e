"""How good z is: task metrics, probes beside baselines, and the spread of z."""

from ssl_jets.evaluate.evaluation import Evaluation
from ssl_jets.evaluate.generated import GeneratedEvaluation, evaluate_generated
from ssl_jets.evaluate.of_model import evaluate_model
from ssl_jets.evaluate.of_models import Comparison, compare_models
from ssl_jets.evaluate.of_zfile import evaluate_z
from ssl_jets.evaluate.protocol_anomaly import AnomalyScan, anomaly_scan
from ssl_jets.evaluate.protocol_labels import LabelCurves, label_curves
from ssl_jets.evaluate.summary import anomaly_table, comparison_table, generated_table, labels_table, summary_table
from ssl_jets.evaluate.task import TaskMetrics, classify_metrics

__all__ = [
    "AnomalyScan",
    "Comparison",
    "Evaluation",
    "GeneratedEvaluation",
    "LabelCurves",
    "TaskMetrics",
    "anomaly_scan",
    "anomaly_table",
    "classify_metrics",
    "compare_models",
    "comparison_table",
    "evaluate_generated",
    "evaluate_model",
    "evaluate_z",
    "generated_table",
    "label_curves",
    "labels_table",
    "summary_table",
]
