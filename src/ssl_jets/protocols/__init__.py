"""Protocols: long evaluations that train as well. Finished results are kept, and a stopped protocol resumes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl_jets.protocols.anomaly import anomaly_scan
    from ssl_jets.protocols.anomaly_result import AnomalyScan
    from ssl_jets.protocols.domain import domain_protocol
    from ssl_jets.protocols.domain_result import DomainResult
    from ssl_jets.protocols.labels import label_curves
    from ssl_jets.protocols.labels_result import LabelCurves
    from ssl_jets.protocols.registry import PROTOCOLS
    from ssl_jets.protocols.settings import DomainRun
    from ssl_jets.protocols.tables import anomaly_table, domain_table, labels_table

__all__ = [
    "PROTOCOLS",
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

_MODULES = {
    "PROTOCOLS": "registry",
    "AnomalyScan": "anomaly_result",
    "DomainResult": "domain_result",
    "DomainRun": "settings",
    "LabelCurves": "labels_result",
    "anomaly_scan": "anomaly",
    "anomaly_table": "tables",
    "domain_protocol": "domain",
    "domain_table": "tables",
    "label_curves": "labels",
    "labels_table": "tables",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: reports read results without torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
