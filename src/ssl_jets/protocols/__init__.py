"""Long evaluations that train as well: what is finished is kept, and a stopped one goes on where it was."""

from ssl_jets.protocols.anomaly import AnomalyScan, anomaly_scan, anomaly_table
from ssl_jets.protocols.domain import DomainRun, domain_protocol
from ssl_jets.protocols.domain_result import DomainResult, domain_table
from ssl_jets.protocols.label_curves import LabelCurves, label_curves, labels_table

__all__ = [
    "AnomalyScan",
    "DomainResult",
    "DomainRun",
    "LabelCurves",
    "anomaly_scan",
    "anomaly_table",
    "domain_protocol",
    "domain_table",
    "label_curves",
    "labels_table",
]
