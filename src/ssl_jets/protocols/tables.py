"""Results of protocols as plain tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.tables import number
from ssl_jets.protocols.anomaly_result import AnomalyScan
from ssl_jets.protocols.domain_result import DomainResult
from ssl_jets.protocols.labels_result import LabelCurves
from ssl_jets.runtime.terminal import folded, plain_table


def labels_table(result: LabelCurves) -> str:
    """Format label curves: mean and standard deviation over seeds."""
    rows = [
        (
            f"{100 * point.share:g} %",
            f"{point.labels:,}",
            point.curve,
            f"{point.accuracy:.4f} +- {point.accuracy_std:.4f}",
            f"{point.auc:.4f} +- {point.auc_std:.4f}",
        )
        for point in result.points
    ]
    table = plain_table(("share", "labels", "curve", "accuracy", "macro AUC"), rows)
    return _with_sentences(table, result.against_observables())


def anomaly_table(result: AnomalyScan) -> str:
    """Format an anomaly search: the distance scores, and every point of the CWoLa scans."""
    distances = [
        (entry.signal, entry.of, entry.score, number(entry.auc), _improvement(entry.improvement))
        for entry in result.distances
    ]
    scans = []
    for scan in result.cwola:
        for point in scan.points:
            significance = f"{point.significance:.2f}"
            improvement = _with_spread(point.improvement, point.improvement_std)
            scans.append((scan.signal, scan.of, f"{point.signal_jets:,}", significance, improvement))
    head = ("signal", "distance in", "score", "AUC (68 %)", "largest SIC (68 %)")
    scan_head = ("signal", "CWoLa reads", "signal jets", "S / sqrt(B)", "largest SIC")
    return f"{plain_table(head, distances)}\n\n{plain_table(scan_head, scans)}"


def _improvement(estimate: Estimate) -> str:
    return ">= " * estimate.limit + number(estimate)


def _with_spread(value: float | None, std: float | None) -> str:
    if value is None:
        return "not defined"
    return f"{value:.2f}" + ("" if std is None else f" +- {std:.2f}")


def domain_table(result: DomainResult) -> str:
    """Format a domain protocol: performance on both domains, its drop, and the gap in z before and after."""
    head = ("start", "adapt", "simulation", "target", "lost", "AUC simulation", "AUC target", "A-distance", "before")
    rows = []
    for summary in result.summary:
        values = summary.values
        cells = (
            values.simulation_accuracy,
            values.target_accuracy,
            values.drop_accuracy,
            values.simulation_auc,
            values.target_auc,
            values.a_distance,
        )
        before = result.before[summary.start].gap.all.a_distance.value
        rows.append((summary.start, summary.adapt, *map(str, cells), f"{before:.4f}"))
    return _with_sentences(plain_table(head, rows), result.against_observables())


def _with_sentences(table: str, sentences: Sequence[str]) -> str:
    return "\n".join([table, "", *map(folded, sentences)]).rstrip()
