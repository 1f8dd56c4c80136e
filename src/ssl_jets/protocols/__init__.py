"""Protocols: long evaluations that train as well. Finished results are kept, and a stopped protocol resumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssl_jets.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from ssl_jets.protocols.anomaly import anomaly_scan
    from ssl_jets.protocols.anomaly_result import AnomalyScan
    from ssl_jets.protocols.domain import domain_protocol
    from ssl_jets.protocols.domain_result import DomainResult
    from ssl_jets.protocols.labels import label_curves
    from ssl_jets.protocols.labels_result import LabelCurves
    from ssl_jets.protocols.settings import DomainRun
    from ssl_jets.protocols.tables import anomaly_table, domain_table, labels_table

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

__getattr__ = lazy_names(
    __name__,
    {
        "anomaly_result": ("AnomalyScan",),
        "domain_result": ("DomainResult",),
        "settings": ("DomainRun",),
        "labels_result": ("LabelCurves",),
        "anomaly": ("anomaly_scan",),
        "tables": (
            "anomaly_table",
            "domain_table",
            "labels_table",
        ),
        "domain": ("domain_protocol",),
        "labels": ("label_curves",),
    },
)
