"""Results of protocols as plain tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_jets.evaluation.tables import number
from ssl_jets.protocols.anomaly_result import AnomalyScan, DistanceScore, Separation
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
        (entry.signal, entry.of, entry.score, number(entry.auc), *_limits(entry)) for entry in result.distances
    ]
    scans = []
    for scan in result.cwola:
        of = (scan.signal, scan.of, scan.reader)
        for point in scan.points:
            numbers = (
                _with_spread(point.auc, point.auc_std, 3),
                _with_spread(point.rejection, point.rejection_std, 1),
                ">= " * point.improvement_limit + _with_spread(point.improvement, point.improvement_std, 2),
            )
            scans.append((*of, f"{point.signal_jets:,}", f"{point.significance:.2f}", *numbers))
        ceiling = scan.supervised
        scans.append((*of, "labels", "", _with_spread(ceiling.auc.value, None, 3), *_limits(ceiling)))
    head = ("signal", "distance in", "score", "AUC (68 %)", "R50", "largest SIC")
    scan_head = ("signal", "CWoLa reads", "reader", "signal jets", "S/sqrt(B)", "AUC", "R50", "largest SIC")
    return f"{plain_table(head, distances)}\n\n{plain_table(scan_head, scans)}"


def _limits(found: Separation | DistanceScore) -> tuple[str, str]:
    """Format R50 and SIC, which can be lower limits."""
    numbers = ((found.rejection, 1), (found.improvement, 2))
    rejection, improvement = (
        ">= " * estimate.limit + _with_spread(estimate.value, None, digits) for estimate, digits in numbers
    )
    return rejection, improvement


def _with_spread(value: float | None, std: float | None, digits: int) -> str:
    if value is None:
        return "not defined"
    return f"{value:.{digits}f}" + ("" if std is None else f" +- {std:.{digits}f}")


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
